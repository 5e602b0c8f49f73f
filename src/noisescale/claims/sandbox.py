"""The quadratic sandbox: stationary loss of SGD on ½θᵀHθ with noise of covariance C/S."""

from __future__ import annotations

import numpy as np

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import farthest, over_seeds, within
from noisescale.theory import excess_loss, stationary_variance

_SEEDS = {"smoke": 8, "laptop": 20}
_CHAINS = {"smoke": 800, "laptop": 4000}
# Curvatures and the noise along their eigenvectors, which are not proportional: the law holds for any C.
_CURVATURES = np.array([0.02, 0.1, 0.3, 1.0])
_NOISES = np.array([1.0, 0.2, 0.5, 2.0])
_BATCH = 16.0
# η·h_max from the linear regime to near the edge at 2.
_RATES = (0.05, 0.2, 0.8, 1.5, 1.9)


def excess(request: Request) -> Evidence:
    """C4.5: excess loss (η/4S)·Tr C, and exactly ½Σ(η/S)c_i/(2 − ηh_i) at every η."""
    seeds = _SEEDS[request.scale]
    generator = np.random.default_rng(request.first_seed)
    found = np.array(
        [[_simulated(rate, _CHAINS[request.scale], request.null, generator) for _ in range(seeds)] for rate in _RATES]
    )
    exact, linear = (np.array([_law(rate, finite) for rate in _RATES]) for finite in (True, False))
    half = 2 * found.std(1, ddof=1) / np.sqrt(seeds)
    grid = np.linspace(0.02, 1.95, 100)
    panel = Panel(
        "η·h_max", "excess loss",
        (
            Curve("simulated, ± 2 standard errors", np.array(_RATES), found.mean(1), found.mean(1) - half,
                  found.mean(1) + half),
            Curve("½Σ(η/S)c/(2 − ηh)", grid, np.array([_law(rate, True) for rate in grid]), kind="theory"),
            Curve("(η/4S)·Tr C", grid, np.array([_law(rate, False) for rate in grid]), kind="theory"),
        ),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("loss over the exact law", farthest(found / exact[:, None], 1.0), "1",
                       "of the rate farthest off", within(1, 0.01)),
            over_seeds("loss over (η/4S)·Tr C", found[0] / linear[0], "1", f"at ηh_max = {_RATES[0]:g}",
                      within(1, 0.05)),
        ),
        (panel,), seeds * len(_RATES),
        f"four directions, curvatures {_CURVATURES.tolist()}, noises {_NOISES.tolist()}, S = {_BATCH:g}, "
        f"{_CHAINS[request.scale]} chains a seed; no network",
    )  # fmt: skip


def _law(rate: float, finite_steps: bool) -> float:
    return excess_loss(rate, _CURVATURES, _NOISES / _BATCH, finite_steps=finite_steps)


def _simulated(rate: float, chains: int, null: bool, generator: np.random.Generator) -> float:
    """Mean excess loss of independent chains after twelve of the slowest direction's relaxation times."""
    # From half of the law's own deviation, so that slow directions need not be waited for as long.
    pairs = zip(_CURVATURES, _NOISES / _BATCH, strict=True)
    variance = np.array([stationary_variance(rate, curvature, noise) for curvature, noise in pairs])
    theta = generator.standard_normal((chains, 4)) * np.sqrt(variance) * 0.5
    scale = np.sqrt(_NOISES / _BATCH) * (0.7 if null else 1.0)  # taken out: half of the noise
    steps, losses = int(12 / (rate * _CURVATURES[0])), []
    for step in range(steps):
        theta -= rate * (_CURVATURES * theta + scale * generator.standard_normal((chains, 4)))
        if step > 0.8 * steps:
            losses.append(0.5 * float(np.mean(theta**2 @ _CURVATURES)))
    return float(np.mean(losses))
