"""Two wells and isotropic noise: the time that SGD spends in each well, compared with the Gibbs law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisescale.claims.criterion import within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_errors
from noisescale.claims.statistic import farthest_from, over_seeds
from noisescale.theory import log_odds_of_regions, log_odds_of_wells

_SEEDS = {"smoke": 6, "laptop": 12}
_CHAINS = {"smoke": 300, "laptop": 1000}
_STEPS = {"smoke": 8000, "laptop": 24_000}
# Well A is wide and higher than the narrow well B. SGD stays mostly in B at small noise, and in A at large noise.
_HEIGHT_A, _CURVATURE_A, _CURVATURE_B, _DISTANCE = 0.15, 1.0, 16.0, 0.8
_NOISES = (0.1, 0.14, 0.2, 0.28)
_RATE = 0.005


def gibbs(request: Request) -> Evidence:
    """C4.11: SGD visits two wells A and B as the Gibbs law predicts.

    log p_A/p_B = ½ log(h_B/h_A) − (L_A − L_B)/n with n = σ²η/(2S), in one dimension
    """
    seeds = _SEEDS[request.scale]
    generator = np.random.default_rng(request.first_seed)
    log_odds = np.array([[_simulate(n, request, generator) for _ in range(seeds)] for n in _NOISES])
    x = np.linspace(-8, 6, 200_001)
    exact = np.array([log_odds_of_regions(n, np.minimum(*_wells(x)), _in_a(x)) for n in _NOISES])
    laplace = np.array([log_odds_of_wells(n, _HEIGHT_A, _CURVATURE_A, _CURVATURE_B) for n in _NOISES])
    inverse_noises = 1 / np.array(_NOISES)
    slope_ratio = np.polyfit(inverse_noises, log_odds, 1)[0] / np.polyfit(inverse_noises, exact, 1)[0]
    order = np.argsort(_NOISES)
    curves = (
        mean_with_errors("simulated", inverse_noises[order], log_odds[order]),
        Curve("Gibbs law, integrated", inverse_noises[order], exact[order], kind="theory"),
        Curve("½ log(h_B/h_A) − ΔL/n", inverse_noises[order], laplace[order], kind="theory"),
    )
    return Evidence(
        statistics=(
            over_seeds("log odds minus the log odds of the Gibbs law", farthest_from(0.0, log_odds - exact[:, None]),
                       "nats", "log p_A/p_B, for the n that deviates most", within(0, 0.1)),
            over_seeds("ratio of the slope in 1/n to the slope of the law", slope_ratio, "1",
                       "slopes of log p_A/p_B; the law is integrated numerically", within(1, 0.1)),
        ),
        panels=(Panel("1/n, n = σ²η/(2S)", "log p_A/p_B", curves),),
        runs=seeds * len(_NOISES),
        setting=f"one dimension, wells of curvature {_CURVATURE_A:g} and {_CURVATURE_B:g}, ΔL = {_HEIGHT_A:g}, η = "
        f"{_RATE:g}, {_CHAINS[request.scale]} chains per seed; no network",
        reported={
            f"½ log(h_B/h_A) − ΔL/n minus the integrated law, n = {n:g}": float(approximate - integrated)
            for n, approximate, integrated in zip(_NOISES, laplace, exact, strict=True)
        },
    )  # fmt: skip


def _wells(x: Floats) -> tuple[Floats, Floats]:
    """Return the parabolas of A and of B. The loss is the smaller of the two."""
    well_a = _HEIGHT_A + 0.5 * _CURVATURE_A * (x + _DISTANCE / 2) ** 2
    return well_a, 0.5 * _CURVATURE_B * (x - _DISTANCE / 2) ** 2


def _in_a(x: Floats) -> NDArray[np.bool_]:
    well_a, well_b = _wells(x)
    in_a: NDArray[np.bool_] = well_a < well_b
    return in_a


def _simulate(n: float, request: Request, generator: np.random.Generator) -> float:
    """Return the log ratio of the time in A to the time in B. Half of the chains start in A, half in B."""
    chains, steps = _CHAINS[request.scale], _STEPS[request.scale]
    x = np.where(np.arange(chains) % 2, 1.0, -1.0) * _DISTANCE / 2
    # θ ← θ − η(L' + noise) with Var = 2n/η, which is σ²/S for n = σ²η/(2S).
    # The null experiment has half of the noise variance.
    noise_size = np.sqrt(2 * n * _RATE) * (0.7 if request.null else 1.0)
    in_a = total = 0
    for step in range(steps):
        gradient = np.where(_in_a(x), _CURVATURE_A * (x + _DISTANCE / 2), _CURVATURE_B * (x - _DISTANCE / 2))
        x = x - _RATE * gradient + noise_size * generator.standard_normal(chains)
        if step >= steps // 2:
            in_a, total = in_a + int(_in_a(x).sum()), total + chains
    return float(np.log(max(in_a, 1) / max(total - in_a, 1)))
