"""Studies of the best learning rate at each batch size, momentum and budget, with a schedule that halves the rate."""

from __future__ import annotations

from typing import Any

from noisescale.claims.studies.specs import HALVING, claim_spec, ladder, mnist1d_spec
from noisescale.claims.study import ClaimStudy, GpuSweeps
from noisescale.sweeps import SweepSpec

NETWORK = "MLP, one hidden layer of width 64, NTK, no batch norm, MNIST-1D, halving schedule"
_BATCHES = [4, 8, 16, 32, 64, 128, 256]
WIDE_NETWORK_BATCHES = [64, 128, 256, 512, 1024, 2048, 4096]
RECALLED = "We recall the grid and the schedule from memory."
_WIDE = "WRN-16-4 on CIFAR-10, ghost batches of 64, a ladder of rates at each batch"


def _tuned(
    name: str, first_seed: int, batches: list[int], rates: tuple[float, float], **grid: list[float]
) -> list[SweepSpec]:
    training = {"schedule": HALVING, **({} if "epochs" in grid else {"epochs": 30})}
    rate_ladder = ladder(*rates, 2**0.5)
    return [
        mnist1d_spec(
            name, first_seed, 16, grid={"learning_rate": rate_ladder, "batch_size": batches, **grid}, training=training
        )
    ]


def wide_networks(
    name: str, first_seed: int, grid: dict[str, Any], training: dict[str, Any], seeds: int = 3
) -> list[SweepSpec]:
    """Build a sweep of WRN-16-4 on CIFAR-10, with ghost batches of 64 examples and decay 5e-4.

    Args:
        name: Name of the sweep.
        first_seed: First seed.
        grid: Keys of the section `grid`.
        training: Keys of the section `training`.
        seeds: Number of seeds.

    Source:
        Smith, Elsen, De 2020, recalled.
    """
    spec = claim_spec(
        name, first_seed, seeds, dataset={"name": "cifar10"},
        model={"family": "resnet", "blocks": [2, 2, 2], "normalization": "ghost_batch", "ghost_size": 64},
        grid={"parameterization": ["standard"], "width": [64], "weight_decay": [5e-4],
              "batch_size": WIDE_NETWORK_BATCHES, **grid},
        training={"schedule": HALVING, "augmentation": ["flip", "crop"], "evaluations": 20, **training},
    )  # fmt: skip
    return [spec]


TUNED_AT_EQUAL_EPOCHS = ClaimStudy(
    f"{NETWORK}, 30 epochs, a ladder of rates at each of seven batches",
    lambda first_seed: _tuned("tuned-at-equal-epochs", first_seed, _BATCHES, (0.5, 46.0)),
    GpuSweeps(
        lambda first_seed: wide_networks(
            "gpu-tuned-at-equal-epochs", first_seed, {"learning_rate": ladder(0.0625, 16.0, 2.0)}, {"epochs": 200}
        ),
        f"{_WIDE}, 200 epochs, without momentum",
        f"{RECALLED} There are 3 seeds.",
    ),
)
# The effective rates ε/(1 − m) include all rates of `TUNED_AT_EQUAL_EPOCHS` and larger rates.
TUNED_WITH_MOMENTUM = ClaimStudy(
    f"{NETWORK}, 30 epochs, momentum 0.9, a ladder of rates at each of seven batches",
    lambda first_seed: _tuned("tuned-with-momentum", first_seed, _BATCHES, (0.05, 12.9), momentum=[0.9]),
    GpuSweeps(
        lambda first_seed: wide_networks(
            "gpu-tuned-with-momentum", first_seed, {"learning_rate": ladder(0.0078125, 2.0, 2.0), "momentum": [0.9]},
            {"epochs": 200},
        ),
        f"{_WIDE}, 200 epochs, momentum 0.9",
        f"{RECALLED} There are 3 seeds.",
    ),
)  # fmt: skip
TUNED_OVER_BUDGETS = ClaimStudy(
    f"{NETWORK}, B = 16, a ladder of rates at each of four budgets",
    lambda first_seed: _tuned("tuned-over-budgets", first_seed, [16], (1.0, 46.0), epochs=[10.0, 20.0, 40.0, 80.0]),
)
