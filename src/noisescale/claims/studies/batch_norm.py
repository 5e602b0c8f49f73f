"""Studies over widths of residual and convolutional networks with batch norm."""

from __future__ import annotations

from typing import Any

from noisescale.claims.studies.specs import NOISY_LABELS, claim_spec
from noisescale.claims.studies.widths import OUR_GRID
from noisescale.claims.study import ClaimStudy, GpuSweeps
from noisescale.sweeps import SweepSpec

_DIGITS = "batch norm, NTK, ε = 1, 1,000 steps, 8×8 digits with a fifth of the labels redrawn, widths 4 to 16"


def _digits(name: str, first_seed: int, model: dict[str, Any]) -> list[SweepSpec]:
    grid = {
        "parameterization": ["ntk"], "width": [4, 6, 8, 12, 16], "learning_rate": [1.0],
        "batch_size": [6, 8, 11, 16, 23, 32, 45],
    }  # fmt: skip
    spec = claim_spec(
        name, first_seed, 6, dataset={"name": "digits", **NOISY_LABELS}, model={"normalization": "batch", **model},
        grid=grid, training={"steps": 1000, "evaluations": 12},
        stability={"steps": 100, "seeds": 4, "batch_size": [16]},
    )  # fmt: skip
    return [spec]


def _cifar10(name: str, first_seed: int, model: dict[str, Any]) -> list[SweepSpec]:
    # This study uses NTK, where ḡ is about εN/B. In the standard parameterization, ḡ = g·d/σ0² grows with width even if
    # all widths have the same best batch size.
    grid = {
        "parameterization": ["ntk"], "width": [8, 11, 16, 23, 32, 45], "learning_rate": [4.0],
        "batch_size": [16, 23, 32, 45, 64, 91, 128, 181],
    }  # fmt: skip
    spec = claim_spec(
        name, first_seed, 5, dataset={"name": "cifar10"}, model={"normalization": "batch", **model}, grid=grid,
        training={"epochs": 100, "evaluations": 20},
    )  # fmt: skip
    return [spec]


RESIDUAL_NETWORKS = ClaimStudy(
    f"residual networks of two blocks, {_DIGITS}",
    lambda first_seed: _digits("residual-networks", first_seed, {"family": "resnet", "blocks": [1, 1]}),
    GpuSweeps(
        lambda first_seed: _cifar10("gpu-residual-networks", first_seed, {"family": "resnet", "blocks": [2, 2, 2]}),
        "Residual networks of sixteen layers with batch norm under NTK on CIFAR-10, over widths",
        f"We train residual networks of 16 layers under NTK. The paper trains wide residual networks. {OUR_GRID}",
    ),
)
CONVOLUTIONAL_NETWORKS = ClaimStudy(
    f"convolutional networks of three convolutions, {_DIGITS}",
    lambda first_seed: _digits("convolutional-networks", first_seed, {"family": "convnet", "depth": 3}),
    GpuSweeps(
        lambda first_seed: _cifar10("gpu-convolutional-networks", first_seed, {"family": "convnet", "depth": 5}),
        "Convolutional networks with batch norm under NTK on CIFAR-10, over widths",
        f"We train convolutional networks under NTK. {OUR_GRID}",
    ),
)
