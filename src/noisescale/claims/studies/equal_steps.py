"""Studies at equal steps: a ladder of rates at each batch size, with a fifth of the labels redrawn."""

from __future__ import annotations

from typing import Any

from noisescale.claims.studies.specs import HALVING, NOISY_LABELS, ladder, mnist1d_spec
from noisescale.claims.studies.tuned_rates import RECALLED, wide_networks
from noisescale.claims.study import ClaimStudy, GpuSweeps
from noisescale.sweeps import SweepSpec

NETWORK = "MLP, one hidden layer of width 64, MNIST-1D with a fifth of the labels redrawn, halving schedule"
_STEPS = 6000
_GHOSTS = {"normalization": "ghost_batch", "ghost_size": 16}
_GHOST_BATCHES = [16, 32, 64, 128, 256]


def _plain(name: str, first_seed: int, rates: tuple[float, float], batches: list[int], steps: int) -> list[SweepSpec]:
    spec = mnist1d_spec(
        name, first_seed, 10, dataset=NOISY_LABELS, grid={"learning_rate": ladder(*rates, 2.0), "batch_size": batches},
        training={"steps": steps, "schedule": HALVING},
    )  # fmt: skip
    return [spec]


def _normalized(
    name: str, first_seed: int, seeds: int, model: dict[str, Any], rates: tuple[float, float], batches: list[int],
    steps: int,
) -> list[SweepSpec]:  # fmt: skip
    grid = {"parameterization": ["standard"], "learning_rate": ladder(*rates, 2.0), "batch_size": batches}
    spec = mnist1d_spec(
        name, first_seed, seeds, dataset=NOISY_LABELS, model=model, grid=grid,
        training={"steps": steps, "schedule": HALVING},
    )  # fmt: skip
    return [spec]


EQUAL_STEPS = ClaimStudy(
    f"{NETWORK}, NTK, no batch norm, 6,000 steps",
    lambda first_seed: _plain("equal-steps", first_seed, (0.5, 64.0), [16, 32, 64, 128, 256, 512], _STEPS),
)
# This study trains the largest batch size of `EQUAL_STEPS` for four times the steps.
MORE_STEPS = ClaimStudy(
    f"{NETWORK}, NTK, no batch norm, B = 512, 24,000 steps",
    lambda first_seed: _plain("more-steps", first_seed, (0.125, 2.0), [512], 4 * _STEPS),
)
# Runs with the smallest batch size pass over the training set more than thirty times. A quarter as many passes, as in
# `GHOST_BATCHES`, do not suffice to learn it.
EQUAL_STEPS_WITH_GHOST_BATCHES = ClaimStudy(
    f"{NETWORK}, batch norm over 16 examples, 4,000 steps",
    lambda first_seed: _normalized(
        "ghost-batches-longer", first_seed, 12, _GHOSTS, (0.25, 8.0), [32, 64, 128, 256, 512], 4000
    ),
    # Six seeds make three pairs: each seed of a pair chooses the rate of the other.
    GpuSweeps(
        lambda first_seed: wide_networks(
            "gpu-equal-steps", first_seed, {"learning_rate": ladder(0.0625, 16.0, 2.0), "momentum": [0.9]},
            {"steps": 9765}, seeds=6,
        ),
        "WRN-16-4 on CIFAR-10, ghost batches of 64, a ladder of rates at each batch, momentum 0.9, 9,765 steps",
        f"{RECALLED} There are 6 seeds.",
    ),
)  # fmt: skip
GHOST_BATCHES = ClaimStudy(
    f"{NETWORK}, batch norm over 16 examples, 2,000 steps",
    lambda first_seed: _normalized("ghost-batches", first_seed, 8, _GHOSTS, (0.0625, 16.0), _GHOST_BATCHES, 2000),
)
WHOLE_BATCHES = ClaimStudy(
    f"{NETWORK}, batch norm over the whole batch, 2,000 steps",
    lambda first_seed: _normalized(
        "whole-batches", first_seed, 8, {"normalization": "batch"}, (0.0625, 16.0), _GHOST_BATCHES, 2000
    ),
)
