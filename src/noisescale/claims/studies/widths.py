"""Studies of the best noise over widths, in two parameterizations."""

from __future__ import annotations

from typing import Any

from noisescale.claims.studies.specs import NOISY_LABELS, claim_spec, mnist1d_spec
from noisescale.claims.study import ClaimStudy, GpuSweeps
from noisescale.sweeps import SweepSpec

# Training time ε·steps, as in examples/mnist1d.toml.
TIME = 400_000
_BATCHES = [8, 11, 16, 23, 33]
_STABILITY = {"steps": 300, "seeds": 8, "batch_size": [4, 16, 64, 256]}
_TWO_EXTRA_RUNGS = {"extend_edges": True, "max_edge_rungs": 2}
NETWORK = "MLP, one hidden layer, no batch norm, MNIST-1D, 20,000 test examples, constant rate"

OUR_GRID = "We chose the grid, the budget and the number of seeds, because the paper's are unknown to us."
_FASHION_BATCHES = [8, 11, 16, 23, 32, 45, 64]
_FASHION_STABILITY = {"steps": 300, "seeds": 8, "batch_size": [8, 32, 128, 512]}


def fashion_convnets(
    name: str, first_seed: int, parameterization: str, batches: list[int], training: dict[str, Any], **sections: Any
) -> list[SweepSpec]:
    """Build the sweep of convolutional networks over channels on Fashion-MNIST.

    Args:
        name: Name of the sweep.
        first_seed: First seed.
        parameterization: "ntk" or "standard".
        batches: Batch sizes, in examples.
        training: The section `training`.
        **sections: Further sections.
    """
    rate = 1.0 if parameterization == "ntk" else 0.05
    grid = {
        "parameterization": [parameterization], "width": [8, 12, 16, 24, 32, 48, 64], "learning_rate": [rate],
        "batch_size": batches,
    }  # fmt: skip
    spec = claim_spec(
        name, first_seed, 10, dataset={"name": "fashion_mnist", "label_noise": 0.1},
        model={"family": "convnet", "depth": 3}, grid=grid, training=training, **sections,
    )  # fmt: skip
    return [spec]


def _fashion_over_channels(name: str, first_seed: int, parameterization: str) -> list[SweepSpec]:
    return fashion_convnets(
        name, first_seed, parameterization, _FASHION_BATCHES, {"steps": 100_000, "evaluations": 16},
        fit={"extend_edges": True}, stability=_FASHION_STABILITY,
    )  # fmt: skip


def _over_widths(first_seed: int) -> list[SweepSpec]:
    grid = {"width": [32, 40, 48, 64, 80, 96, 112, 128], "batch_size": _BATCHES}
    spec = mnist1d_spec(
        "over-widths", first_seed, 24, grid=grid, training={"steps": TIME // 8}, fit=_TWO_EXTRA_RUNGS,
        stability=_STABILITY,
    )  # fmt: skip
    return [spec]


def _standard_over_widths(first_seed: int) -> list[SweepSpec]:
    grid = {
        "parameterization": ["standard"], "width": [32, 48, 56, 64, 80, 96, 112, 128], "learning_rate": [0.25],
        "batch_size": _BATCHES,
    }  # fmt: skip
    spec = mnist1d_spec(
        "standard-over-widths", first_seed, 12, grid=grid, training={"steps": 50_000}, fit=_TWO_EXTRA_RUNGS,
        stability=_STABILITY,
    )  # fmt: skip
    return [spec]


def _over_widths_at_equal_epochs(first_seed: int) -> list[SweepSpec]:
    grid = {"width": [32, 48, 64, 80, 96, 128], "batch_size": _BATCHES}
    return [
        mnist1d_spec(
            "over-widths-at-equal-epochs", first_seed, 8, grid=grid, training={"epochs": 150}, fit=_TWO_EXTRA_RUNGS
        )
    ]


def _small_data_over_widths(first_seed: int) -> list[SweepSpec]:
    grid = {
        "width": [8, 16, 32, 64, 128, 256, 512], "learning_rate": [4.0], "batch_size": [1, 2, 4, 8, 16, 32, 64],
    }  # fmt: skip
    spec = mnist1d_spec(
        "small-data-over-widths", first_seed, 8, dataset={"train_size": 500, **NOISY_LABELS}, grid=grid,
        training={"steps": 10_000},
    )  # fmt: skip
    return [spec]


def _init_scales(first_seed: int) -> list[SweepSpec]:
    return [
        mnist1d_spec(
            f"init-scale-{scale:g}", first_seed, 8,
            grid={"parameterization": ["standard"], "learning_rate": [0.25], "init_scale": [scale],
                  "batch_size": [6, 8, 11, 16, 23, 32, 45]},
            training={"steps": 50_000}, stability={"steps": 300, "seeds": 8, "batch_size": [4, 16, 64]},
        )
        for scale in (1.0, 2.0, 3.0, 4.0)
    ]  # fmt: skip


OVER_WIDTHS = ClaimStudy(
    f"{NETWORK}, NTK, ε = 8, ε·steps = 400,000, widths 32 to 128, B = 8 to 33",
    _over_widths,
    GpuSweeps(
        lambda first_seed: _fashion_over_channels("gpu-over-widths", first_seed, "ntk"),
        "Convolutional networks under NTK on Fashion-MNIST, over channels",
        f"We train convolutional networks on Fashion-MNIST, as the paper does. {OUR_GRID}",
    ),
)
STANDARD_OVER_WIDTHS = ClaimStudy(
    f"{NETWORK}, standard parameterization, ε = 0.25, 50,000 steps, widths 32 to 128, B = 8 to 33",
    _standard_over_widths,
    GpuSweeps(
        lambda first_seed: _fashion_over_channels("gpu-standard-over-widths", first_seed, "standard"),
        "Convolutional networks in the standard parameterization on Fashion-MNIST, over channels",
        f"We train convolutional networks on Fashion-MNIST, as the paper does. {OUR_GRID}",
    ),
)
OVER_WIDTHS_AT_EQUAL_EPOCHS = ClaimStudy(
    f"{NETWORK}, NTK, ε = 8, 150 epochs at every batch, widths 32 to 128",
    _over_widths_at_equal_epochs,
    GpuSweeps(
        lambda first_seed: fashion_convnets(
            "gpu-over-widths-at-equal-epochs", first_seed, "ntk", _FASHION_BATCHES, {"epochs": 60, "evaluations": 16}
        ),
        "Convolutional networks under NTK on Fashion-MNIST, over channels, 60 epochs at every batch",
        f"We train convolutional networks on Fashion-MNIST, as the paper does. {OUR_GRID}",
    ),
)
SMALL_DATA_OVER_WIDTHS = ClaimStudy(
    "MLP, one hidden layer, NTK, ε = 4, 10,000 steps, MNIST-1D with 500 training examples and a fifth of their labels "
    "redrawn",
    _small_data_over_widths,
)
INIT_SCALES = ClaimStudy(
    f"{NETWORK}, standard parameterization, width 64, ε = 0.25, σ0² = 1 to 4, the same batches at each", _init_scales
)
