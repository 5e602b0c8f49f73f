"""Planted problems: simulated curves, thresholds and laws whose truth is known, to check the coverage of intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlantedCurve:
    """A mean curve over a ladder, its optimum and the noise of the seeds.

    Args:
        x: Log positions of the ladder's cells (its measured points), shape [cells].
        mean: Expected metric at the cells, shape [cells].
        factor: Matrix A such that A Aᵀ is the covariance of a seed's residuals over cells, shape [cells, k].
        optimum: Position x of the maximum of the mean curve.
        second: Position x of the second maximum; NaN if there is a single peak.
    """

    x: Array
    mean: Array
    factor: Array
    optimum: float
    second: float = math.nan

    def draw(self, generator: np.random.Generator, seeds: int) -> Array:
        """Draw the metric of several seeds, shape [seeds, cells]."""
        return np.asarray(self.mean + generator.standard_normal((seeds, self.factor.shape[1])) @ self.factor.T)


def skewed(u: Array, curvature: Array | float = 0.08, skew: float = 1.5) -> Array:
    """Return a peak at u = 0 that falls faster on the right: -curvature·(exp(skew·u) - 1 - skew·u)/skew².

    The defaults resemble the test accuracy of a two-layer network on MNIST-1D against its log noise scale. Accuracy
    falls by two percentage points a factor e below the peak, and by eight a factor e above it.

    Args:
        u: Log distance from the peak.
        curvature: Minus the second derivative at the peak.
        skew: Ratio of the third to the second derivative at the peak; not 0.

    Returns:
        The metric minus its value at the peak.
    """
    return np.asarray(-curvature * (np.expm1(skew * u) - skew * u) / skew**2)


def seed_noise(x: Array, deviation: float, growth: float = 0.15, correlation: float = 0.5) -> Array:
    """Return a factor of a residual covariance that grows along the ladder and correlates neighbouring cells.

    Args:
        x: Log positions, shape [cells].
        deviation: Standard deviation of a seed's metric in the middle of the ladder.
        growth: Growth of the log deviation per nat of x.
        correlation: Correlation between cells a factor √2 apart.

    Returns:
        The factor A, shape [cells, cells].
    """
    scale = deviation * np.exp(growth * (x - x.mean()))
    distance = np.abs(x[:, None] - x[None, :]) / math.log(math.sqrt(2))
    return np.asarray(np.linalg.cholesky(np.outer(scale, scale) * correlation**distance + 1e-14 * np.eye(x.size)))


def planted_curve(
    x: Array, optimum: float, *, curvature: float = 0.08, skew: float = 1.5, deviation: float = 0.01
) -> PlantedCurve:
    """Return a single skewed peak with heteroscedastic, correlated seed noise.

    Args:
        x: Log positions, shape [cells].
        optimum: Position x of the maximum.
        curvature: Minus the second derivative at the maximum.
        skew: Skew of the peak, as in `skewed`.
        deviation: Standard deviation of a seed's metric in the middle of the ladder.

    Returns:
        The curve.
    """
    return PlantedCurve(x, 0.6 + skewed(x - optimum, curvature, skew), seed_noise(x, deviation), optimum)


def two_peaks(x: Array, left: float, right: float, *, deviation: float = 0.01) -> PlantedCurve:
    """Return two bumps of height 0.1 and 0.105, the right one higher, with a valley between them.

    Args:
        x: Log positions, shape [cells].
        left: Position x of the left bump.
        right: Position x of the right bump.
        deviation: Standard deviation of a seed's metric in the middle of the ladder.

    Returns:
        The curve; `optimum` is the higher maximum of the sum and `second` the lower maximum.
    """

    def mean(z: Array) -> Array:
        bumps = 0.1 * np.exp(-0.5 * (z - left) ** 2) + 0.105 * np.exp(-0.5 * (z - right) ** 2)
        return np.asarray(0.5 + bumps)

    offsets = np.linspace(-0.7, 0.7, 4001)
    tops = [float(bump + offsets[np.argmax(mean(bump + offsets))]) for bump in (left, right)]
    return PlantedCurve(x, mean(x), seed_noise(x, deviation), tops[1], tops[0])


def planted_widths(
    generator: np.random.Generator,
    widths: Sequence[float],
    x: Array,
    *,
    slope: float = 1.0,
    middle: float,
    lack_of_fit: float = 0.0,
    curvature: float = 0.08,
    deviation: float = 0.01,
) -> list[PlantedCurve]:
    """Return curves whose optima scatter about a power law of width, with normal deviations.

    Args:
        generator: Random generator of the deviations.
        widths: Widths, shape [widths].
        x: Log positions of the cells, shared by all widths, shape [cells].
        slope: Exponent of width.
        middle: Position x of the optimum at the mean log width.
        lack_of_fit: Standard deviation τ of the deviation of each width's log optimum from the law.
        curvature: Curvature at the peak, as in `skewed`.
        deviation: Deviation of the seeds, as in `seed_noise`.

    Returns:
        One curve for each width.
    """
    logs = np.log(np.asarray(widths, dtype=np.float64))
    positions = middle + slope * (logs - logs.mean()) + lack_of_fit * generator.standard_normal(logs.size)
    return [planted_curve(x, float(position), curvature=curvature, deviation=deviation) for position in positions]


def failures(
    generator: np.random.Generator, rates: Array, median: float, spread: float, seeds: int, fractal: float = 0.0
) -> Array:
    """Draw the failures of several seeds on a ladder of rates, with log-normal thresholds.

    Args:
        generator: Random generator of the thresholds.
        rates: Learning rates, increasing, shape [cells].
        median: Median threshold.
        spread: Standard deviation of the log threshold over seeds.
        seeds: Number of seeds.
        fractal: Probability that a rate above the threshold is stable after all.

    Returns:
        1 for a failed run and 0 for a stable run, shape [seeds, cells].
    """
    thresholds = median * np.exp(spread * generator.standard_normal((seeds, 1)))
    failed = rates[None, :] >= thresholds
    spared = generator.random(failed.shape) < fractal
    return (failed & ~spared).astype(np.float64)
