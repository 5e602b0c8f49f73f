"""The time after which two histories have the same distribution of functions, by frequencies of predicted classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from noisescale.claims.criterion import below, within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.scale_invariant_pack import NETWORK, ScaleInvariantPack
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.statistic import over_seeds
from noisescale.named_inputs import one_tensor

# Margin of `docs/verdicts.md` for slopes, and largest share of the distance that may remain after 1/(ηλ) steps.
_PROPORTIONAL, _MIXED = within(1, 0.25), below(0.25)
# Number of groups of runs, and number of runs of each history in a group. No two runs share initial weights. The
# jackknife leaves out one group at a time, because the mixing time from a single group is much noisier.
_GROUPS = {"smoke": 8, "laptop": 28}
_RUNS_IN_GROUP = {"smoke": 3, "laptop": 4}
# Products ηλ after the histories merge. They share one rate and differ in the decay.
_RATE = 0.2
_PRODUCTS = {"smoke": (0.064, 0.004), "laptop": (0.016, 0.008, 0.004, 0.002)}
# Number of steps before the first measurement, in addition to 1.5/(ηλ). Meanwhile the networks learn the digits.
_STEPS_APART = {"smoke": 150, "laptop": 1000}
# Product ηλ of each history before the merge, relative to the product after it.
_HIGH, _LOW = 4.0, 0.25
# Number of measurements in each 1/(ηλ). They start ½/(ηλ) steps before the merge and end 1/(ηλ) steps after it.
_MEASUREMENTS = 16
# Upper limit of the fitted mixing time, in steps. No run is so long.
_LONGEST = 1e5


@dataclass(frozen=True)
class _Mixing:
    """The decay of the distance between two histories, at P products ηλ and M measurements.

    Args:
        slope: Slope of log mixing time on log 1/(ηλ).
        times: Mixing times, shape [P], in steps.
        shares: Distance divided by the distance at merging, shape [P, M].
        remaining: Mean of `shares` from ¾/(ηλ) to 1/(ηλ) steps after the merge.
    """

    slope: float
    times: Floats
    shares: Floats
    remaining: float


def mixing_time(request: Request) -> Evidence:
    """C2.7: the distance between the functions of two histories vanishes within a time proportional to 1/(ηλ)."""
    products = np.array(_PRODUCTS[request.scale])
    groups, size = _GROUPS[request.scale], _RUNS_IN_GROUP[request.scale]
    runs = [_predicted_classes(float(product), request) for product in products]
    mixing = _analyze(runs, products, slice(0))
    replicates = [_analyze(runs, products, slice(group * size, (group + 1) * size)) for group in range(groups)]
    slopes, remaining = (
        groups * whole - (groups - 1) * np.array(parts)
        for whole, parts in (
            (mixing.slope, [replicate.slope for replicate in replicates]),
            (mixing.remaining, [replicate.remaining for replicate in replicates]),
        )
    )
    times = np.stack([replicate.times for replicate in replicates])
    means, error = mixing.times, np.sqrt((groups - 1) * times.var(0))
    constant = np.exp(np.log(means * products).mean())
    times_since_merging = np.arange(_MEASUREMENTS + 1) / _MEASUREMENTS
    shares = tuple(
        Curve(f"ηλ = {product:g}", times_since_merging, curve)
        for product, curve in zip(products, mixing.shares, strict=True)
    )
    measured = Curve("measured, ± standard error", 1 / products, means, means - error, means + error)
    theory = Curve("τ ∝ 1/(ηλ)", 1 / products, constant / products, kind="theory")
    return Evidence(
        statistics=(
            over_seeds("slope of log mixing time on log 1/(ηλ)", slopes, "1",
                       "mixing time from an exponential fit; jackknife pseudo-values of groups of runs", _PROPORTIONAL),
            over_seeds("remaining share of the distance", remaining, "1",
                       "from 3/4 to 1 times 1/(ηλ) after merging, mean over ηλ; jackknife pseudo-values", _MIXED),
        ),
        panels=(
            Panel("ηλ·steps since merging", "distance between functions / distance at merging", shares),
            Panel("1/(ηλ), steps", "mixing time, steps", (measured, theory), log_x=True, log_y=True),
        ),
        runs=2 * groups * size * len(products),
        setting=f"{NETWORK}; η = {_RATE:g}; histories at {_HIGH:g} and {_LOW:g} times the common ηλ; {groups} groups "
        f"of {size} runs of each; squared distance of frequencies of predicted classes, bias removed, mean over test "
        "images",
        reported={"mixing time times ηλ": float(constant)},
    )  # fmt: skip


def _analyze(runs: list[torch.Tensor], products: Floats, left_out: slice) -> _Mixing:
    """Fit the mixing of all runs except a slice of them."""
    times, shares = [], []
    for classes, product in zip(runs, products, strict=True):
        used = torch.ones(classes.shape[2], dtype=torch.bool)
        used[left_out] = False
        distances = _distances(classes[:, :, used])
        shares.append(distances[_MEASUREMENTS // 2 :] / distances[: _MEASUREMENTS // 2 + 1].mean())
        times.append(_fit_time(shares[-1], np.arange(len(shares[-1])) / (_MEASUREMENTS * product)))
    x = -np.log(products) + np.log(products).mean()
    slope = x @ np.log(times) / (x @ x)
    remaining = np.mean([share[-_MEASUREMENTS // 4 :].mean() for share in shares])
    return _Mixing(float(slope), np.array(times), np.stack(shares), float(remaining))


def _predicted_classes(product: float, request: Request) -> torch.Tensor:
    """Return the classes [L, 2, R, M] that R runs of each history predict for M images, at L measurements."""
    runs = _GROUPS[request.scale] * _RUNS_IN_GROUP[request.scale]
    decay = product / _RATE
    pack = ScaleInvariantPack([(_RATE, decay)], range(request.first_seed, request.first_seed + 2 * runs))
    pack.change([(_RATE, _HIGH * decay)] * runs + [(_RATE, _LOW * decay)] * runs)
    pack.train(_STEPS_APART[request.scale] + int(1.5 / product))
    rows = []
    for index in range(3 * _MEASUREMENTS // 2 + 1):
        if index == _MEASUREMENTS // 2 + 1 and not request.null:  # in the null experiment, the histories never merge
            pack.change([(_RATE, decay)] * (2 * runs))
        pack.train(round((index + 1) / (product * _MEASUREMENTS)) - round(index / (product * _MEASUREMENTS)))
        rows.append(pack.predictions(one_tensor(pack.data.x_test, pack.data.name).double()).reshape(2, runs, -1))
    return torch.stack(rows)


def _distances(classes: torch.Tensor) -> Floats:
    """Return the unbiased squared distance [L] between the class frequencies of two histories, from [L, 2, R, M]."""
    frequencies = torch.nn.functional.one_hot(classes).double().mean(2)
    chance = (frequencies * (1 - frequencies)).sum(-1) / (classes.shape[2] - 1)
    squares = (frequencies[:, 0] - frequencies[:, 1]).square().sum(-1)
    distances: Floats = (squares - chance.sum(1)).mean(-1).numpy()
    return distances


def _fit_time(shares: Floats, steps: Floats) -> float:
    """Fit the time τ of e^(−t/τ) to the shares [M] by least squares."""

    def misfit(log_time: float) -> float:
        return float(((shares - np.exp(-steps / np.exp(log_time))) ** 2).sum())

    return float(np.exp(minimize_scalar(misfit, bounds=(0.0, np.log(_LONGEST)), method="bounded").x))
