"""How fast two histories become one distribution of functions: distances between frequencies of predicted classes."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import below, over_seeds, within
from noisescale.claims.norm_trace import Bench, Floats

# A quarter for slopes, as `docs/verdicts.md` has it; and the share of the distance that may be left at 1/(ηλ).
_OF_SLOPES, _LEFT = 0.25, 0.25
# Groups of runs, the replicates of a jackknife, and runs of each history in a group; no two have initial weights in
# common. The time of one group alone is far noisier than that of all without it.
_GROUPS = {"smoke": 8, "laptop": 28}
_TRIALS = {"smoke": 3, "laptop": 4}
# Products ηλ after merging, at one rate: only the decay differs.
_RATE = 0.2
_PRODUCTS = {"smoke": (0.064, 0.004), "laptop": (0.016, 0.008, 0.004, 0.002)}
# Steps apart, beside 2/(ηλ): digits must be learnt first.
_ALONE = {"smoke": 150, "laptop": 1000}
# The histories' products, over the one that is common afterwards.
_ABOVE, _BELOW = 4.0, 0.25
# Looks in each 1/(ηλ), from half of that before merging to a whole one after.
_LOOKS = 16


def mixing_time(request: Request) -> Evidence:
    """C2.7: the distance between functions of two histories falls within a time in proportion to 1/(ηλ)."""
    products = np.array(_PRODUCTS[request.scale])
    groups, trials = _GROUPS[request.scale], _TRIALS[request.scale]
    runs = [_classes(float(product), request) for product in products]
    at = np.arange(_LOOKS + 1) / _LOOKS
    whole = _analysis(runs, products, slice(0))
    without = [_analysis(runs, products, slice(own * trials, (own + 1) * trials)) for own in range(groups)]
    slopes, left = (
        groups * whole[part] - (groups - 1) * np.array([own[part] for own in without]) for part in ("slope", "left")
    )
    times = np.stack([own["times"] for own in without])
    means, spread = whole["times"], np.sqrt((groups - 1) * times.var(0))
    middle = np.exp(np.log(means * products).mean())
    return Evidence(
        (
            over_seeds("slope of log time on log 1/(ηλ)", slopes, "1",
                       "time of an exponential fit; pseudo-values of groups of runs",
                       within(1, _OF_SLOPES)),
            over_seeds("share of the distance that is left", left, "1",
                       "from 3/4 to 1 times 1/(ηλ) after merging, mean over ηλ; pseudo-values", below(_LEFT)),
        ),
        (
            Panel("ηλ·steps since merging", "distance between functions, of that at merging",
                  tuple(Curve(f"ηλ = {product:g}", at, own)
                        for product, own in zip(products, whole["shares"], strict=True))),
            Panel("1/(ηλ), steps", "mixing time, steps",
                  (Curve("measured, ± standard error", 1 / products, means, means - spread,
                         means + spread),
                   Curve("τ ∝ 1/(ηλ)", 1 / products, middle / products, kind="theory")), log_x=True, log_y=True),
        ),
        2 * groups * trials * len(products),
        f"MLP of two hidden layers of width 32, batch norm without gains, fixed read-out, digits, B = 32, float64; "
        f"η = {_RATE:g}; histories at {_ABOVE:g} and {_BELOW:g} times the common ηλ; {groups} groups of {trials} runs "
        "of each; squared distance of frequencies of predicted classes, without its bias, mean over test images",
        {"mixing time times ηλ": float(middle)},
    )  # fmt: skip


def _analysis(runs: list[torch.Tensor], products: Floats, without: slice) -> dict[str, Floats]:
    """Slope, times [P], shares [P, M] of the distance that are left, and their mean at the end; some runs left out."""
    times, shares = [], []
    for classes, product in zip(runs, products, strict=True):
        kept = torch.ones(classes.shape[2], dtype=torch.bool)
        kept[without] = False
        distances = _distance(classes[:, :, kept])
        shares.append(distances[_LOOKS // 2 :] / distances[: _LOOKS // 2 + 1].mean())
        times.append(_time(shares[-1], np.arange(len(shares[-1])) / (_LOOKS * product)))
    x = -np.log(products) + np.log(products).mean()
    slope, left = x @ np.log(times) / (x @ x), np.mean([own[-_LOOKS // 4 :].mean() for own in shares])
    return {"slope": slope, "times": np.array(times), "shares": np.stack(shares), "left": np.asarray(left)}


def _classes(product: float, request: Request) -> torch.Tensor:
    """Predicted classes [L, 2, R, M] of test images by R runs of each history, at looks before and after merging."""
    runs = _GROUPS[request.scale] * _TRIALS[request.scale]
    decay = product / _RATE
    bench = Bench([(_RATE, decay)], range(request.first_seed, request.first_seed + 2 * runs))
    bench.change([(_RATE, _ABOVE * decay)] * runs + [(_RATE, _BELOW * decay)] * runs)
    bench.skip(_ALONE[request.scale] + int(1.5 / product))
    rows = []
    for look in range(3 * _LOOKS // 2 + 1):
        if look == _LOOKS // 2 + 1 and not request.null:  # taken out: the histories go on as they were
            bench.change([(_RATE, decay)] * (2 * runs))
        bench.skip(round((look + 1) / (product * _LOOKS)) - round(look / (product * _LOOKS)))
        rows.append(bench.predictions(bench.data.x_test.double()).reshape(2, runs, -1))
    return torch.stack(rows)


def _distance(classes: torch.Tensor) -> Floats:
    """Squared distance [L] of class frequencies of [L, 2, R, M] predictions, without what chance adds."""
    shares = torch.nn.functional.one_hot(classes).double().mean(2)
    chance = (shares * (1 - shares)).sum(-1) / (classes.shape[2] - 1)
    found: Floats = ((shares[:, 0] - shares[:, 1]).square().sum(-1) - chance.sum(1)).mean(-1).numpy()
    return found


def _time(shares: Floats, steps: Floats) -> float:
    """τ of e^{−t/τ} through shares [M] of the distance at merging, by least squares."""

    def misfit(log_time: float) -> float:
        return float(((shares - np.exp(-steps / np.exp(log_time))) ** 2).sum())

    # From one step to more than any run has, whatever ηλ is.
    return float(np.exp(minimize_scalar(misfit, bounds=(0.0, np.log(1e5)), method="bounded").x))
