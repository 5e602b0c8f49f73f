"""Two wells and isotropic noise: how often SGD is found in each, against the Gibbs law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import farthest, over_seeds, within
from noisescale.theory import log_odds_of_regions, log_odds_of_wells

Floats = NDArray[np.float64]

_SEEDS = {"smoke": 6, "laptop": 12}
_CHAINS = {"smoke": 300, "laptop": 1000}
_STEPS = {"smoke": 8000, "laptop": 24_000}
# A wide well A that lies higher than a narrow well B: at little noise B is visited, at much noise A.
_HEIGHT_A, _CURVATURE_A, _CURVATURE_B, _DISTANCE = 0.15, 1.0, 16.0, 0.8
_NOISES = (0.1, 0.14, 0.2, 0.28)
_RATE = 0.005


def gibbs(request: Request) -> Evidence:
    """C4.11: log p_A/p_B = ½ log(h_B/h_A) − (L_A − L_B)/n, n = σ²η/(2S), in one dimension."""
    seeds = _SEEDS[request.scale]
    generator = np.random.default_rng(request.first_seed)
    found = np.array([[_log_odds(n, request, generator) for _ in range(seeds)] for n in _NOISES])
    line = np.linspace(-8, 6, 200_001)
    exact = np.array([log_odds_of_regions(n, np.minimum(*_wells(line)), _in_a(line)) for n in _NOISES])
    laplace = np.array([log_odds_of_wells(n, _HEIGHT_A, _CURVATURE_A, _CURVATURE_B) for n in _NOISES])
    half = 2 * found.std(1, ddof=1) / np.sqrt(seeds)
    order = np.argsort(_NOISES)
    inverse = 1 / np.array(_NOISES)
    slopes = np.polyfit(inverse, found, 1)[0]
    panel = Panel(
        "1/n, n = σ²η/(2S)", "log p_A/p_B",
        (
            Curve("simulated, ± 2 standard errors", inverse[order], found.mean(1)[order], (found.mean(1) - half)[order],
                  (found.mean(1) + half)[order]),
            Curve("Gibbs, integrated", inverse[order], exact[order], kind="theory"),
            Curve("½ log(h_B/h_A) − ΔL/n", inverse[order], laplace[order], kind="theory"),
        ),
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("odds over the Gibbs law", farthest(found - exact[:, None], 0.0), "nats",
                       "log p_A/p_B, of the n farthest off", within(0, 0.1)),
            over_seeds("slope in 1/n over the law's", slopes / np.polyfit(inverse, exact, 1)[0], "1",
                      "of log p_A/p_B, against the integrated law's", within(1, 0.1)),
        ),
        (panel,), seeds * len(_NOISES),
        f"one dimension, wells of curvature {_CURVATURE_A:g} and {_CURVATURE_B:g}, ΔL = {_HEIGHT_A:g}, η = {_RATE:g}, "
        f"{_CHAINS[request.scale]} chains a seed; no network",
        {f"½ log(h_B/h_A) − ΔL/n minus the integrated law, n = {n:g}": float(a - b)
         for n, a, b in zip(_NOISES, laplace, exact, strict=True)},
    )  # fmt: skip


def _wells(x: Floats) -> tuple[Floats, Floats]:
    """The parabolas of A and of B; the loss is the lower one."""
    a = _HEIGHT_A + 0.5 * _CURVATURE_A * (x + _DISTANCE / 2) ** 2
    return a, 0.5 * _CURVATURE_B * (x - _DISTANCE / 2) ** 2


def _in_a(x: Floats) -> NDArray[np.bool_]:
    a, b = _wells(x)
    found: NDArray[np.bool_] = a < b
    return found


def _log_odds(n: float, request: Request, generator: np.random.Generator) -> float:
    """Log of the time in A over the time in B, of chains that begin in both."""
    chains, steps = _CHAINS[request.scale], _STEPS[request.scale]
    x = np.where(np.arange(chains) % 2, 1.0, -1.0) * _DISTANCE / 2
    # θ ← θ − η(L' + noise) with Var = 2n/η: that is σ²/S with n = σ²η/(2S).
    size = np.sqrt(2 * n * _RATE) * (0.7 if request.null else 1.0)  # taken out: half of the noise
    inside = total = 0
    for step in range(steps):
        slope = np.where(
            _in_a(x), _CURVATURE_A * (x + _DISTANCE / 2), _CURVATURE_B * (x - _DISTANCE / 2)
        )  # fmt: skip
        x = x - _RATE * slope + size * generator.standard_normal(chains)
        if step >= steps // 2:
            inside, total = inside + int(_in_a(x).sum()), total + chains
    return float(np.log(max(inside, 1) / max(total - inside, 1)))
