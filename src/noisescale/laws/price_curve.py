"""The curve A·(s/½)^k of the price of a larger learning rate, at the share s of the stability edge that the rate takes.

The posterior of A and k comes from the metric of a few cells at equal noise. It is computed on a grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import Estimate
from noisescale.laws.place_laws import weighted_quantiles

Array = NDArray[np.float64]

# The prior is a measurement of this project on MNIST-1D, at equal noise and equal ε·steps with ten seeds: a share of
# 0.28 to 0.35 cost nothing (-0.3 to 0.2 points of accuracy), 0.38 to 0.44 cost 0.7 to 0.85, 0.53 cost 1.4 and 2.8, and
# at least 0.69 cost 8 to 16. So k is about 4.3, and A is about 1.9 of the 56 points between a constant predictor and
# the best cell. Other problems may differ, so the priors are wide: 95 % of A lies within a factor of 19 either way, and
# 95 % of k between 1.4 and 7.2.
_SPAN_SHARE, _SPAN_SHARE_SPREAD = 0.034, 1.5
_EXPONENT, _EXPONENT_SPREAD = 4.3, 1.5
# The grid of the posterior. A is a share of the span, up to the whole span.
_SPAN_SHARES = np.exp(np.linspace(math.log(1e-4), 0.0, 93))
_EXPONENTS = np.linspace(1.0, 9.0, 33)
# The prior of the seeds' noise counts as one degree of freedom at this share of the span.
_NOISE_SHARE = 0.01

_HALF = 0.5
_CURVE = "A·(s/½)^k at the share s of the stability edge, at equal noise"
# Relative tolerance for comparing a share with the largest measured share.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class PriceCurve:
    """The posterior of the curve on a grid.

    Args:
        amplitudes: A, the price at half of the edge, at each grid point, in the metric's unit, shape [grid].
        exponents: k at each grid point, shape [grid].
        weights: Probability of each grid point, shape [grid].
        largest_share: Largest share of the edge at which the price is known.
    """

    amplitudes: Array
    exponents: Array
    weights: Array
    largest_share: float

    def mean(self, share: Array) -> Array:
        """Return the expected price at shares of the edge, infinite above `largest_share`, shape [points]."""
        return self._with_limit(share, self.weights @ self._prices(share, self.amplitudes, self.exponents))

    def draws(self, share: Array, count: int, generator: np.random.Generator) -> Array:
        """Draw curves, and return their prices at shares of the edge, shape [count, points]."""
        rows = generator.choice(self.weights.size, count, p=self.weights)
        return self._with_limit(share, self._prices(share, self.amplitudes[rows], self.exponents[rows]))

    def at_half(self, unit: str) -> Estimate:
        """Return A in the metric's unit."""
        return _quantiles(self.amplitudes, self.weights, unit, f"A in {_CURVE}")

    def exponent(self) -> Estimate:
        """Return k."""
        return _quantiles(self.exponents, self.weights, "1", f"k in {_CURVE}")

    def _prices(self, share: Array, amplitudes: Array, exponents: Array) -> Array:
        """Return A·(s/½)^k for each pair (A, k) and share, shape [pairs, points]."""
        # Larger shares have an infinite price. Clipping avoids an overflow there.
        known = np.clip(np.nan_to_num(share), 0.0, self.largest_share)
        return np.asarray(amplitudes[:, None] * (known / _HALF) ** exponents[:, None])

    def _with_limit(self, share: Array, prices: Array) -> Array:
        return np.where(np.asarray(share) <= self.largest_share * (1 + _ROUNDING), prices, np.inf)


def price_curve(shares: Array, scores: Array, span: float) -> PriceCurve:
    """Estimate the curve from cells at equal noise.

    The score of a seed in a cell is the seed's level, minus the price at the cell's share, plus noise of an unknown
    standard deviation. Levels have flat priors, so the likelihood is a Student one in the sum of squares that remains
    after each seed's mean is subtracted.

    Args:
        shares: Share of the edge of each cell, increasing, shape [cells].
        scores: Metric of each seed in each cell, a larger value being better, shape [seeds, cells].
        span: Span of the metric, the distance from a constant predictor to the best cell.

    Returns:
        The curve, known up to the last share.
    """
    seeds, cells = scores.shape
    deviations = scores - scores.mean(axis=1, keepdims=True)
    curves = (shares / _HALF) ** _EXPONENTS[:, None]
    curves -= curves.mean(axis=1, keepdims=True)
    amplitudes = span * _SPAN_SHARES[:, None]
    squares = (deviations**2).sum() + 2 * amplitudes * (curves @ deviations.sum(axis=0))
    squares = squares + amplitudes**2 * seeds * (curves**2).sum(axis=1)
    degrees = seeds * (cells - 1)
    log_posterior = (
        -0.5 * (degrees + 1) * np.log((_NOISE_SHARE * span) ** 2 + squares)
        - 0.5 * ((np.log(_SPAN_SHARES[:, None]) - math.log(_SPAN_SHARE)) / _SPAN_SHARE_SPREAD) ** 2
        - 0.5 * ((_EXPONENTS - _EXPONENT) / _EXPONENT_SPREAD) ** 2
    )
    weights = np.exp(log_posterior - log_posterior.max())
    grid = np.broadcast_arrays(amplitudes, _EXPONENTS, weights / weights.sum())
    return PriceCurve(grid[0].ravel(), grid[1].ravel(), grid[2].ravel(), largest_share=float(shares[-1]))


def _quantiles(values: Array, weights: Array, unit: str, convention: str) -> Estimate:
    """Return the median and the ends of the central 95 % of a weighted sample."""
    low, middle, high = weighted_quantiles(values, weights, (0.025, 0.5, 0.975))
    return Estimate(float(middle), float(low), float(high), unit, convention)
