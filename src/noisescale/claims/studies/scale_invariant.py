"""Studies of scale-invariant residual networks with weight decay. They have sweeps only for a GPU."""

from __future__ import annotations

from typing import Any

from noisescale.claims.studies.specs import claim_spec
from noisescale.claims.study import ClaimStudy, GpuSweeps
from noisescale.sweeps import SweepSpec

_DIFFERS = (
    "The setting is the paper's except for a fixed read-out, no gains, independent batches, no augmentation and ε = "
    "1e-5 in the normalization. There are 3 seeds."
)


def _residual_networks(
    name: str, first_seed: int, grid: dict[str, Any], training: dict[str, Any], measure: dict[str, Any]
) -> list[SweepSpec]:
    spec = claim_spec(
        name, first_seed, 3, dataset={"name": "cifar10"},
        model={"family": "resnet", "blocks": [5, 5, 5], "normalization": "batch", "scale_invariant": True},
        grid={"parameterization": ["standard"], "width": [16], "batch_size": [128], **grid},
        training={"sampling": "with_replacement", **training}, measure={"examples": 128, **measure},
    )  # fmt: skip
    return [spec]


def _with_decay(first_seed: int) -> list[SweepSpec]:
    quantities = ["weight_norm_squared", "rotation"]
    return _residual_networks(
        "gpu-normalized-networks", first_seed,
        grid={"learning_rate": [0.1, 0.4], "weight_decay": [0.002, 0.008, 0.032]},
        training={"steps": 40_000, "evaluations": 80},
        measure={"quantities": quantities, "at": [0.5 + place / 80 for place in range(1, 41)]},
    )  # fmt: skip


def _after_histories(first_seed: int) -> list[SweepSpec]:
    histories = [{"kind": "random", "pieces": 2, "low": 0.0625, "until": 0.5, "seed": seed} for seed in range(5)]
    return _residual_networks(
        "gpu-normalized-histories", first_seed,
        grid={"learning_rate": [0.4], "weight_decay": [0.00125], "schedule": histories},
        training={"steps": 20_000, "evaluations": 80},
        measure={"quantities": ["weight_norm_squared"], "at": [0.4 + place / 80 for place in range(1, 49)]},
    )  # fmt: skip


NETWORKS_WITH_DECAY = ClaimStudy(
    "scale-invariant networks with weight decay",
    gpu=GpuSweeps(
        _with_decay,
        "Residual networks of 32 layers with batch norm on CIFAR-10, 8 to 512 times 1/(ηλ) steps, over η and λ",
        f"{_DIFFERS} η and λ are larger, so that equilibrium comes sooner. We compute ‖g‖² from the angle of a step, "
        "so the tests of the norm and of the rotation are not independent: both test stationarity.",
    ),
)
NETWORKS_AFTER_HISTORIES = ClaimStudy(
    "scale-invariant networks after different histories",
    gpu=GpuSweeps(
        _after_histories,
        "Residual networks of 32 layers with batch norm on CIFAR-10 after five random histories, 5/(ηλ) steps each, "
        "then as many steps at a common η and λ",
        f"{_DIFFERS} The histories have two random pieces. We train 26 epochs in all, and the paper 500. The histories "
        "with the smallest ηλ do not reach an equilibrium before they merge.",
    ),
)
