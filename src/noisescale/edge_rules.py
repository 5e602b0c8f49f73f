"""Rules of the stability edge that planning and analysis share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def seed_thresholds(log_rates: Array, failed: Array) -> tuple[Array, Array]:
    """Return the ends of the interval in which each seed starts to fail.

    A short run at a small rate may end at chance because it has learned nothing yet. Failures below a seed's lowest
    stable rate are therefore slow training, not instability, and are ignored.

    Args:
        log_rates: Log of the rates of a stability ladder, increasing, shape [rates].
        failed: 1 where a run failed, 0 where it was stable, NaN where it is missing, shape [seeds, rates].

    Returns:
        The log of the highest stable rate below the first failing one (minus infinity if there is none), and the log of
        the first failing rate (infinity if no run fails), each of shape [seeds].
    """
    stable = failed == 0
    learns = np.min(np.where(stable, log_rates, math.inf), axis=1, keepdims=True)
    unstable = (failed == 1) & ((log_rates > learns) | np.isinf(learns))
    first = np.min(np.where(unstable, log_rates, math.inf), axis=1)
    below = np.max(np.where(stable & (log_rates < first[:, None]), log_rates, -math.inf), axis=1)
    return below, first


def log_edge_between(log_batches: Array, knots: Array, log_edges: Array) -> Array:
    """Interpolate the log of the edge in the log of the batch size.

    Outside the measured batch sizes the edge errs downward. Below the smallest it is proportional to the batch size,
    because an edge never falls faster than B as the batch shrinks. Above the largest it is constant, because an edge
    never falls as the batch grows.

    Args:
        log_batches: Log of the batch sizes, shape [points].
        knots: Log of the measured batch sizes, increasing, shape [batches].
        log_edges: Log of the edge at each of them, shape [batches].
    """
    inside = np.clip(log_batches, knots[0], knots[-1])
    return np.asarray(np.interp(inside, knots, log_edges) + np.minimum(log_batches - inside, 0.0))
