"""How fast the norm forgets: twins with the same batches, one with larger and one with smaller weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import farthest, over_seeds, within
from noisescale.claims.norm_trace import Bench, Floats, seeds_of
from noisescale.theory import equilibrium

# Margins of `docs/verdicts.md`: 10 % for rates, a quarter for slopes.
_OF_RATES, _OF_SLOPES = 0.10, 0.25
_SEEDS = {"smoke": 6, "laptop": 40}
# By which the weights of the twins are multiplied; opposite signs, so that what is of second order cancels.
_UP, _DOWN = 1.1, 0.9
# Relaxation times 1/(4ηλ): until the directions, and S with them, are where they stay; and of the fit.
_SETTLED, _WINDOW = 12, 2

# (η, λ): products over 1.5 decades, from large and from small rates.
_PAIRS = {
    "smoke": ((0.4, 0.01), (0.1, 0.08), (0.4, 0.04)),
    "laptop": ((0.4, 0.00125), (0.1, 0.01), (0.4, 0.005), (0.1, 0.04), (0.4, 0.02), (0.1, 0.16)),
}
# The rate is 4ηλ where S stays as it is, and S does where the direction of the weights does not depend on the size of
# the steps: where the mean gradient vanishes and the weights only diffuse. With fixed labels, true or redrawn, it
# does not stay: a smaller effective rate learns more of them.
_NOTHING_LEARNT: dict[str, Any] = {"every_label": True, "read_out": 0.1, "depth": 1}
_LEARNING: dict[str, Any] = {}
_SETTING = (
    "MLP of one hidden layer of width 32, batch norm without gains, a tenth of the fixed read-out, every digit under "
    "every label, B = 32, float64"
)


@dataclass(frozen=True)
class _Relaxation:
    """Of S seeds at one (η, λ).

    Arguments:
        product: ηλ. log_ratio: [T + 1, S], of γ of both twins, mean over layers. rates: [S], κ. elasticity: [S],
            d ln S/d ln γ between the twins.
    """

    product: float
    log_ratio: Floats
    rates: Floats
    elasticity: Floats


def relaxation_rate(request: Request) -> Evidence:
    """C2.5: ‖w‖⁴ relaxes at the rate 4ηλ, where S stays as it is."""
    pairs, seeds = _PAIRS[request.scale], seeds_of(request, _SEEDS)
    found = [_relaxation(pair, seeds, _NOTHING_LEARNT) for pair in pairs]
    learning = _relaxation(pairs[-1], seeds, _LEARNING)
    order = np.argsort([own.product for own in found])
    found = [found[place] for place in order]
    products = np.array([own.product for own in found])
    rates = np.stack([own.rates for own in found])
    # Taken out: every rate is set against another product, largest against smallest.
    claimed = products[::-1] if request.null else products
    ratios = rates / (4 * claimed[:, None])
    x = np.log(claimed) - np.log(claimed).mean()
    slopes = x @ np.log(rates) / (x @ x)
    return Evidence(
        (
            over_seeds("rate over 4ηλ", farthest(ratios, 1.0), "1", "of the ηλ farthest off", within(1, _OF_RATES)),
            over_seeds("slope of log rate", slopes, "1", "on log ηλ, least squares", within(1, _OF_SLOPES)),
        ),
        (_decays(found), _rates(products, rates, learning)),
        2 * len(seeds) * (len(pairs) + 1),
        f"{_SETTING}; twins with ‖w‖ times {_UP:g} and {_DOWN:g}; "
        f"(η, λ) = {', '.join(f'({rate:g}, {decay:g})' for rate, decay in pairs)}",
        {
            "d ln S/d ln γ": float(np.mean([own.elasticity for own in found])),
            "d ln S/d ln γ with true labels": float(learning.elasticity.mean()),
        },
        (
            over_seeds("rate over 4ηλ, mean over ηλ", ratios.mean(0), "1", "all ηλ", within(1, _OF_RATES)),
            over_seeds(
                "rate over 4ηλ with true labels", learning.rates / (4 * learning.product), "1",
                f"two hidden layers, whole read-out, ηλ = {learning.product:g}", within(1, _OF_RATES),
            ),
            over_seeds(
                "the same, over 4ηλ(1 − d ln S/d ln γ)",
                learning.rates / (4 * learning.product * (1 - learning.elasticity.mean())), "1",
                "with the mean of d ln S/d ln γ over seeds", within(1, _OF_RATES),
            ),
        ),
    )  # fmt: skip


def _relaxation(pair: tuple[float, float], seeds: list[int], setting: dict[str, Any]) -> _Relaxation:
    """Twins from equilibrium at one (η, λ), and the rate at which they meet again."""
    product, count = pair[0] * pair[1], len(seeds)
    time = 1 / (4 * product)
    bench = Bench([pair, pair], seeds, **setting)
    if setting is _LEARNING:
        bench.skip(1000)
    else:
        _begin_near_equilibrium(bench, pair)
    bench.skip(int(_SETTLED * time))
    bench.scale([_UP] * count + [_DOWN] * count)
    trace = bench.record(int(_WINDOW * time))
    logs = 2 * np.log(trace.squares)
    log_ratio = (logs[:, :count] - logs[:, count:]).mean(2)
    first = int(time)
    second = np.log((trace.gradients * trace.squares[:-1])[:first].mean(0))
    elasticity = (second[:count] - second[count:]).mean(1) / log_ratio[:first].mean(0)
    rates = np.array([_fitted(own, 4 * product) for own in log_ratio.T])
    return _Relaxation(product, log_ratio, rates, elasticity)


def _begin_near_equilibrium(bench: Bench, pair: tuple[float, float]) -> None:
    """Bring the one layer's norm to where S puts it; from far above it would take many relaxation times."""
    trace = bench.record(50)
    second = (trace.gradients * trace.squares[:-1]).mean((0, 2))
    wanted = np.array([equilibrium(*pair, own).norm for own in second])
    bench.scale(list(wanted / np.sqrt(trace.squares[-1].mean(1))))


def _fitted(log_ratio: Floats, near: float) -> float:
    """κ of a log ratio [T + 1] that falls as e^{−κt} from its known beginning, by least squares."""
    steps = np.arange(len(log_ratio))

    def misfit(log_rate: float) -> float:
        return float(((log_ratio - log_ratio[0] * np.exp(-math.exp(log_rate) * steps)) ** 2).sum())

    bounds = (math.log(near) - math.log(10), math.log(near) + math.log(10))
    return math.exp(float(minimize_scalar(misfit, bounds=bounds, method="bounded").x))


def _decays(found: list[_Relaxation]) -> Panel:
    x = np.linspace(0, _WINDOW, 41)
    measured = tuple(
        Curve(
            f"ηλ = {own.product:g}", x,
            np.interp(x, 4 * own.product * np.arange(len(own.log_ratio)), own.log_ratio.mean(1)),
        )
        for own in found
    )  # fmt: skip
    start = 4 * math.log(_UP / _DOWN)
    theory = Curve("e^(−4ηλt)", x, start * np.exp(-x), kind="theory")
    return Panel(
        "4ηλ·steps since the twins were parted", "log ratio of ‖w‖⁴ of the twins", (*measured, theory), log_y=True
    )


def _rates(products: Floats, rates: Floats, learning: _Relaxation) -> Panel:
    means, spread = rates.mean(1), rates.std(1, ddof=1)
    return Panel(
        "intrinsic learning rate ηλ", "rate of relaxation, a step",
        (
            Curve("measured, ± standard deviation of seeds", products, means, means - spread, means + spread),
            Curve("with true labels, where S moves", np.array([learning.product]), learning.rates.mean(keepdims=True)),
            Curve("4ηλ", products, 4 * products, kind="theory"),
        ),
        log_x=True, log_y=True,
    )  # fmt: skip
