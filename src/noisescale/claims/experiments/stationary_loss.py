"""The stationary loss of SGD on the quadratic ½θᵀHθ with noise of covariance C/S."""

from __future__ import annotations

import numpy as np

from noisescale.claims.criterion import within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.panel import Curve, Panel, mean_with_errors
from noisescale.claims.statistic import farthest_from, over_seeds
from noisescale.theory import excess_loss, stationary_variance

_SEEDS = {"smoke": 8, "laptop": 20}
_CHAINS = {"smoke": 800, "laptop": 4000}
# Curvatures of H, and noises of C along the same directions. They are not proportional, because the law holds for
# any C.
_CURVATURES = np.array([0.02, 0.1, 0.3, 1.0])
_NOISES = np.array([1.0, 0.2, 0.5, 2.0])
_BATCH = 16.0
# Values of η·h_max, from the linear regime to near the stability edge at 2.
_RATES = (0.05, 0.2, 0.8, 1.5, 1.9)


def excess(request: Request) -> Evidence:
    """C4.5: the excess loss is (η/4S)·Tr C at small η, and exactly ½Σ(η/S)c_i/(2 − ηh_i) at every η."""
    seeds, chains = _SEEDS[request.scale], _CHAINS[request.scale]
    generator = np.random.default_rng(request.first_seed)
    losses = np.array([[_simulate(rate, chains, request.null, generator) for _ in range(seeds)] for rate in _RATES])
    exact, linear = (np.array([_law(rate, finite) for rate in _RATES]) for finite in (True, False))
    x = np.linspace(0.02, 1.95, 100)
    curves = (
        mean_with_errors("simulated", np.array(_RATES), losses),
        Curve("½Σ(η/S)c/(2 − ηh)", x, np.array([_law(rate, True) for rate in x]), kind="theory"),
        Curve("(η/4S)·Tr C", x, np.array([_law(rate, False) for rate in x]), kind="theory"),
    )
    return Evidence(
        statistics=(
            over_seeds("ratio of the loss to the exact law", farthest_from(1.0, losses / exact[:, None]), "1",
                       "for the η that deviates most", within(1, 0.01)),
            over_seeds("ratio of the loss to (η/4S)·Tr C", losses[0] / linear[0], "1", f"at ηh_max = {_RATES[0]:g}",
                       within(1, 0.05)),
        ),
        panels=(Panel("η·h_max", "excess loss", curves, log_x=True, log_y=True),),
        runs=seeds * len(_RATES),
        setting=f"four directions, curvatures {_CURVATURES.tolist()}, noises {_NOISES.tolist()}, S = {_BATCH:g}, "
        f"{chains} chains per seed; no network",
    )  # fmt: skip


def _law(rate: float, finite_steps: bool) -> float:
    return excess_loss(rate, _CURVATURES, _NOISES / _BATCH, finite_steps=finite_steps)


def _simulate(rate: float, chains: int, null: bool, generator: np.random.Generator) -> float:
    """Return the mean excess loss of independent chains, late in twelve relaxation times of the slowest direction."""
    directions = zip(_CURVATURES, _NOISES / _BATCH, strict=True)
    variance = np.array([stationary_variance(rate, curvature, noise) for curvature, noise in directions])
    # Chains start with half of the stationary standard deviation, so that slow directions need less time.
    theta = generator.standard_normal((chains, 4)) * np.sqrt(variance) * 0.5
    scale = np.sqrt(_NOISES / _BATCH) * (0.7 if null else 1.0)  # the null experiment has half of the noise variance
    steps, losses = int(12 / (rate * _CURVATURES[0])), []
    for step in range(steps):
        theta -= rate * (_CURVATURES * theta + scale * generator.standard_normal((chains, 4)))
        if step > 0.8 * steps:
            losses.append(0.5 * float(np.mean(theta**2 @ _CURVATURES)))
    return float(np.mean(losses))
