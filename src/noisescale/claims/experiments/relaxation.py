"""The relaxation of the weight norm, measured with twins: two runs with equal batches and different weight norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from noisescale.claims.criterion import within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.scale_invariant_pack import RateAndDecay, ScaleInvariantPack, in_words
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_deviations
from noisescale.claims.statistic import farthest_from, over_seeds
from noisescale.theory import equilibrium

# Margins of `docs/verdicts.md`: 10% for relaxation rates, a quarter for slopes.
_SAME_RATE, _PROPORTIONAL = within(1, 0.10), within(1, 0.25)
_SEEDS = {"smoke": 6, "laptop": 40}
# Factors on the weights of the twins, in opposite directions, so that second-order terms cancel.
_UP, _DOWN = 1.1, 0.9
# Number of relaxation times 1/(4ηλ) until the directions of the weights and S, the mean square of the gradient at unit
# norm, are stationary; and number of relaxation times in the window of the fit.
_SETTLING, _WINDOW = 12, 2
# Pairs (η, λ). The products ηλ cover 1.5 decades, with large and with small rates.
_PAIRS = {
    "smoke": ((0.4, 0.01), (0.1, 0.08), (0.4, 0.04)),
    "laptop": ((0.4, 0.00125), (0.1, 0.01), (0.4, 0.005), (0.1, 0.04), (0.4, 0.02), (0.1, 0.16)),
}
# The rate is 4ηλ if S is constant. S is constant if the direction of the weights does not depend on the size of the
# steps. This holds if the mean gradient vanishes and the weights only diffuse. S is not constant if every image has a
# single label, because networks with a smaller effective rate then learn more labels.
_NOTHING_TO_LEARN: dict[str, Any] = {"every_label": True, "read_out": 0.1, "depth": 1}
_LEARNING_STEPS = 1000
_SETTING = (
    "MLP of one hidden layer of width 32, batch norm without gains, the fixed read-out times 0.1, every digit with "
    "every label, B = 32, float64"
)


@dataclass(frozen=True)
class _Relaxation:
    """Twins of S seeds at one (η, λ), over T steps.

    Args:
        product: Product ηλ.
        log_ratio: Log ratio of ‖w‖⁴ between the twins, averaged over layers, shape [T + 1, S].
        rates: Decay rate κ of the log ratio, per step, shape [S].
        elasticity: Estimate of d ln S/d ln ‖w‖⁴ from the two twins, shape [S].
    """

    product: float
    log_ratio: Floats
    rates: Floats
    elasticity: Floats


def relaxation_rate(request: Request) -> Evidence:
    """C2.5: ‖w‖⁴ relaxes to its equilibrium at the rate 4ηλ per step if S is constant."""
    pairs, seeds = _PAIRS[request.scale], request.seeds(_SEEDS)
    relaxations = sorted((_without_learning(pair, seeds) for pair in pairs), key=lambda item: item.product)
    learning = _with_learning(pairs[-1], seeds)
    products = np.array([item.product for item in relaxations])
    rates = np.stack([item.rates for item in relaxations])
    # In the null experiment, the products are in reverse order: the rate at the largest ηλ is compared with the
    # smallest ηλ.
    compared = products[::-1] if request.null else products
    ratios = rates / (4 * compared[:, None])
    x = np.log(compared) - np.log(compared).mean()
    slopes = x @ np.log(rates) / (x @ x)
    learning_rate = 4 * learning.product
    corrected_rate = learning_rate * (1 - learning.elasticity.mean())
    return Evidence(
        statistics=(
            over_seeds("ratio of rate to 4ηλ", farthest_from(1.0, ratios), "1", "for the ηλ that deviates most",
                       _SAME_RATE),
            over_seeds("slope of log rate on log ηλ", slopes, "1", "least squares", _PROPORTIONAL),
        ),
        panels=(_decay_panel(relaxations), _rate_panel(products, rates, learning)),
        runs=2 * len(seeds) * (len(pairs) + 1),
        setting=f"{_SETTING}; twins with ‖w‖ times {_UP:g} and {_DOWN:g}; (η, λ) = {in_words(pairs)}",
        reported={
            "d ln S/d ln ‖w‖⁴": float(np.mean([item.elasticity for item in relaxations])),
            "d ln S/d ln ‖w‖⁴ with true labels": float(learning.elasticity.mean()),
        },
        beside=(
            over_seeds("ratio of rate to 4ηλ, mean over ηλ", ratios.mean(0), "1", "all ηλ", _SAME_RATE),
            over_seeds("ratio of rate to 4ηλ with true labels", learning.rates / learning_rate, "1",
                       f"two hidden layers, whole read-out, ηλ = {learning.product:g}", _SAME_RATE),
            over_seeds("ratio of rate to 4ηλ(1 − d ln S/d ln ‖w‖⁴) with true labels", learning.rates / corrected_rate,
                       "1", "with the mean of d ln S/d ln ‖w‖⁴ over seeds", _SAME_RATE),
        ),
    )  # fmt: skip


def _without_learning(pair: RateAndDecay, seeds: Sequence[int]) -> _Relaxation:
    pack = ScaleInvariantPack([pair, pair], seeds, **_NOTHING_TO_LEARN)
    # A layer whose norm starts far above equilibrium would need many relaxation times to reach it.
    trace = pack.record(50)
    second_moments = trace.unit_gradients.mean((0, 2))
    norms = np.array([equilibrium(*pair, second_moment).norm for second_moment in second_moments])
    pack.scale(list(norms / np.sqrt(trace.squares[-1].mean(1))))
    return _relax(pack, pair, len(seeds))


def _with_learning(pair: RateAndDecay, seeds: Sequence[int]) -> _Relaxation:
    pack = ScaleInvariantPack([pair, pair], seeds)
    pack.train(_LEARNING_STEPS)
    return _relax(pack, pair, len(seeds))


def _relax(pack: ScaleInvariantPack, pair: RateAndDecay, seeds: int) -> _Relaxation:
    """Bring twins to equilibrium, separate their norms, and fit the rate at which the norms approach each other."""
    product = pair[0] * pair[1]
    time = 1 / (4 * product)
    pack.train(int(_SETTLING * time))
    pack.scale([_UP] * seeds + [_DOWN] * seeds)
    trace = pack.record(int(_WINDOW * time))
    logs = 2 * np.log(trace.squares)
    log_ratio = (logs[:, :seeds] - logs[:, seeds:]).mean(2)
    first = int(time)
    log_moments = np.log(trace.unit_gradients[:first].mean(0))
    elasticity = (log_moments[:seeds] - log_moments[seeds:]).mean(1) / log_ratio[:first].mean(0)
    rates = np.array([_fit_rate(values, 4 * product) for values in log_ratio.T])
    return _Relaxation(product, log_ratio, rates, elasticity)


def _fit_rate(log_ratio: Floats, expected_rate: float) -> float:
    """Fit the rate κ of a log ratio [T + 1] that falls as e^(−κt) from its first value, by least squares."""
    steps = np.arange(len(log_ratio))

    def misfit(log_rate: float) -> float:
        return float(((log_ratio - log_ratio[0] * np.exp(-math.exp(log_rate) * steps)) ** 2).sum())

    bounds = (math.log(expected_rate) - math.log(10), math.log(expected_rate) + math.log(10))
    return math.exp(float(minimize_scalar(misfit, bounds=bounds, method="bounded").x))


def _decay_panel(relaxations: Sequence[_Relaxation]) -> Panel:
    x = np.linspace(0, _WINDOW, 41)
    curves = []
    for item in relaxations:
        times = 4 * item.product * np.arange(len(item.log_ratio))
        curves.append(Curve(f"ηλ = {item.product:g}", x, np.interp(x, times, item.log_ratio.mean(1))))
    start = 4 * math.log(_UP / _DOWN)
    curves.append(Curve("e^(−4ηλt)", x, start * np.exp(-x), kind="theory"))
    label = "log ratio of ‖w‖⁴ of the twins"
    return Panel("4ηλ·steps since the twins were separated", label, tuple(curves), log_y=True)


def _rate_panel(products: Floats, rates: Floats, learning: _Relaxation) -> Panel:
    curves = (
        mean_with_deviations("measured", products, rates),
        Curve("with true labels, where S changes", np.array([learning.product]), learning.rates.mean(keepdims=True)),
        Curve("4ηλ", products, 4 * products, kind="theory"),
    )
    return Panel("intrinsic learning rate ηλ", "rate of relaxation, per step", curves, log_x=True, log_y=True)
