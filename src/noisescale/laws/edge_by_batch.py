"""The stability edge (largest stable learning rate) of one width as a function of batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.edge_rules import log_edge_between
from noisescale.estimate import Estimate, from_log

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EdgeByBatch:
    """The stability edge ε_½ at batch size B, interpolated log-log between the measured batch sizes.

    Outside the measured batch sizes the edge is extrapolated so that it errs downward (`log_edge_between`).

    Args:
        batch_sizes: Measured batch sizes, increasing, in examples, shape [batches].
        log_rates: Log ε_½ at each batch size, shape [batches].
        log_lows: Log of the lower ends of ε_½, shape [batches].
        log_highs: Log of the upper ends of ε_½, shape [batches].
    """

    batch_sizes: tuple[float, ...]
    log_rates: tuple[float, ...]
    log_lows: tuple[float, ...]
    log_highs: tuple[float, ...]

    def measured(self, batch_size: float) -> bool:
        """Return whether the batch size lies within the measured range."""
        return self.batch_sizes[0] * (1 - 1e-9) <= batch_size <= self.batch_sizes[-1] * (1 + 1e-9)

    def log_at(self, log_batch: Array, shift: int = 0) -> Array:
        """Return log ε_½, or an end of its interval, at any batch sizes.

        Edges at different batch sizes come from different runs, so their errors add in quadrature. Between the measured
        batch sizes a and b, the distance from the value to an end is √((1-w)²δ_a² + w²δ_b²). Here w is the weight of b
        in the interpolation, and δ_a and δ_b are the distances at a and b.

        Args:
            log_batch: Natural logarithms of batch sizes, shape [points].
            shift: 0 for the value, -1 for the lower end, 1 for the upper end.

        Returns:
            The logarithms of the learning rates, shape [points].
        """
        knots, rates = np.log(self.batch_sizes), np.asarray(self.log_rates)
        value = log_edge_between(log_batch, knots, rates)
        if shift == 0:
            return value
        inside = np.clip(log_batch, knots[0], knots[-1])
        ends = np.asarray(self.log_lows if shift < 0 else self.log_highs)
        delta = np.where(np.isfinite(ends), np.abs(ends - rates), np.inf)
        right = np.clip(np.searchsorted(knots, inside), 1, max(knots.size - 1, 1)) % knots.size
        left = np.maximum(right - 1, 0)
        gap = np.where(right > left, knots[right] - knots[left], 1.0)
        share = np.clip((inside - knots[left]) / gap, 0.0, 1.0)
        # An infinite end with the weight 0 must add 0, but 0·∞ is NaN.
        parts = [
            np.where(w > 0, w, 1.0) * np.where(w > 0, delta[i], 0.0) for w, i in ((1 - share, left), (share, right))
        ]
        return np.asarray(value + shift * np.hypot(parts[0], parts[1]))

    def at(self, batch_size: float) -> Estimate:
        """Return the edge at a batch size, with its interval."""
        log_batch = np.array([math.log(batch_size)])
        value, low, high = (float(self.log_at(log_batch, shift)[0]) for shift in (0, -1, 1))
        outside = "" if self.measured(batch_size) else "; outside them, extrapolated so that it errs downward"
        return from_log(value, low, high, "learning rate", f"ε_½(B), log-log between measured batches{outside}")
