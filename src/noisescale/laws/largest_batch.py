"""The largest batch size at which a stable learning rate still reaches the optimal noise scale.

Symbols: noise scale g, batch size B, training set size N, momentum m, and the stability edge ε_½, which is the largest
stable learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, from_log, no_estimate
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE

Array = NDArray[np.float64]

CONVENTION = "B* solves g_opt = ε_½(B*)·(N/B* - 1)/(1 - m) (N/B* with replacement)"
# The solver scans a grid of log B, then a second grid within one step of the first. Two grids of 300 points give B to
# one part in 10^4.
_REFINEMENTS = 2
_POINTS = 300


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch size that a stable learning rate can combine with the optimal noise scale.

    Args:
        batch_size: Largest batch size B*, in examples, not rounded, with its interval; NaN if no batch size reaches the
            optimal noise.
        label: "solved", "extrapolated" (outside the batch sizes with a measured edge), "unreachable" (stable rates give
            too little noise even at a batch of one example) or "not_measured" (there is no optimum or no edge).
        advice: Meaning of the label.
    """

    batch_size: Estimate
    label: str
    advice: str


LARGEST_BATCH_ADVICE = {
    "solved": "within the batch sizes whose stability edge was measured",
    "extrapolated": "outside the batch sizes whose stability edge was measured: measure the edge nearer to it",
    "unreachable": "stable rates give too little noise even at a batch of one example",
    "not_measured": "needs an optimum and a stability edge",
}


def largest_batch(
    noise_scale: Estimate,
    edge: EdgeByBatch,
    *,
    train_size: int,
    momentum: float = 0.0,
    replacement: bool = False,
) -> LargestBatch:
    """Solve g_opt = ε_½(B)·(N/B - 1)/(1 - m) for the largest B.

    Each end of the interval adds two shifts of log B* in quadrature. For the lower end, these are the shift if the edge
    is replaced by its lower end, and the shift if the optimum is replaced by its upper end. The method allows for
    asymmetric intervals.

    Args:
        noise_scale: Optimal noise scale g_opt with its interval, in natural units.
        edge: Stability edge over batch sizes.
        train_size: Training set size N, in examples.
        momentum: Momentum m.
        replacement: Whether batches are drawn with replacement.

    Returns:
        B* with its interval and label.

    Raises:
        BadInput: The edge has no batch size.

    Source:
        Zou and Donner 2008 (recovery of variance estimates); coverage in `benchmarks/coverage.py`.
    """
    if not edge.batch_sizes:
        raise BadInput("largest batch", "a stability edge at one batch size or more", "none")
    no_batch = no_estimate("examples", CONVENTION)
    if not (math.isfinite(noise_scale.value) and noise_scale.value > 0):
        return LargestBatch(no_batch, "not_measured", LARGEST_BATCH_ADVICE["not_measured"])

    def solve(log_noise: float, shift: int) -> float:
        return _solve(log_noise, edge, shift, train_size, momentum, replacement)

    center = solve(math.log(noise_scale.value), 0)
    if not math.isfinite(center):
        return LargestBatch(no_batch, "unreachable", LARGEST_BATCH_ADVICE["unreachable"])
    ends = []
    for shift, end in ((-1, noise_scale.high), (1, noise_scale.low)):
        by_edge = solve(math.log(noise_scale.value), shift)
        by_noise = solve(math.log(end), 0) if math.isfinite(end) and end > 0 else -math.inf
        deltas = (by_edge - center, by_noise - center)
        ends.append(center + shift * math.hypot(*deltas) if all(map(math.isfinite, deltas)) else shift * math.inf)
    value = from_log(center, ends[0], ends[1], "examples", CONVENTION)
    label = "solved" if edge.measured(value.value) else "extrapolated"
    return LargestBatch(value, label, LARGEST_BATCH_ADVICE[label])


def _solve(
    log_noise: float, edge: EdgeByBatch, shift: int, train_size: int, momentum: float, replacement: bool
) -> float:
    """Return the log of the largest batch whose noise at the edge reaches `log_noise`; -inf if no batch does."""

    def excess(log_batch: Array) -> Array:
        factor = SGD_NOISE.per_rate(NOISE_SCALE.name, np.exp(log_batch), train_size, momentum, replacement=replacement)
        return edge.log_at(log_batch, shift) + np.log(factor) - log_noise

    # The noise at the edge falls with B where the edge rises more slowly than B. Where the edge rises faster than B,
    # there can be several solutions. The last grid point with enough noise brackets the largest.
    low, high = 0.0, math.log(train_size) - 1e-9
    for _ in range(_REFINEMENTS):
        grid = np.linspace(low, high, _POINTS)
        height = excess(grid)
        reached = np.flatnonzero(height >= 0)
        if reached.size == 0:
            return -math.inf
        k = int(reached[-1])
        if k == grid.size - 1:
            return float(grid[-1])
        low, high = float(grid[k]), float(grid[k + 1])
    return low
