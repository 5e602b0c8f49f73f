"""Planted problems: curves, thresholds and widths whose truth is known, to check that intervals cover it."""

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
        x: log positions of the cells, shape [cells].
        mean: expected metric at the cells, shape [cells].
        factor: a matrix A with A Aᵀ the covariance of a seed's residuals over cells, shape [cells, k].
        optimum: x of the maximum of the mean curve.
        second: x of the second maximum; NaN where there is one peak.
    """

    x: Array
    mean: Array
    factor: Array
    optimum: float
    second: float = math.nan

    def draw(self, generator: np.random.Generator, seeds: int) -> Array:
        """The metric of some seeds, shape [seeds, cells]."""
        return np.asarray(self.mean + generator.standard_normal((seeds, self.factor.shape[1])) @ self.factor.T)


def skewed(u: Array, curvature: float = 0.08, skew: float = 1.5) -> Array:
    """A peak at u = 0 that falls faster on the right: -curvature·(exp(skew·u) - 1 - skew·u)/skew².

    The defaults resemble test accuracy against the log noise scale of a two-layer network on MNIST-1D: two points
    lost one nat below the peak and eight points one nat above it.

    Args:
        u: log distance from the peak.
        curvature: minus the second derivative at the peak.
        skew: third derivative over second derivative at the peak; not 0.

    Returns:
        The metric relative to the peak's.
    """
    return np.asarray(-curvature * (np.expm1(skew * u) - skew * u) / skew**2)


def seed_noise(x: Array, deviation: float, growth: float = 0.15, correlation: float = 0.5) -> Array:
    """Factor of a residual covariance that grows along the ladder and is correlated between neighbouring cells.

    Args:
        x: log positions, shape [cells].
        deviation: standard deviation of a seed's metric in the middle of the ladder.
        growth: growth of the log deviation per nat of x.
        correlation: correlation between cells one factor √2 apart.

    Returns:
        The factor, shape [cells, cells].
    """
    scale = deviation * np.exp(growth * (x - x.mean()))
    distance = np.abs(x[:, None] - x[None, :]) / math.log(math.sqrt(2))
    return np.asarray(np.linalg.cholesky(np.outer(scale, scale) * correlation**distance + 1e-14 * np.eye(x.size)))


def planted_curve(
    x: Array, optimum: float, *, curvature: float = 0.08, skew: float = 1.5, deviation: float = 0.01
) -> PlantedCurve:
    """A single skewed peak with heteroscedastic, correlated seed noise.

    Args:
        x: log positions, shape [cells].
        optimum: x of the maximum.
        curvature: minus the second derivative there.
        skew: see `skewed`.
        deviation: standard deviation of one seed in the middle of the ladder.

    Returns:
        The curve.
    """
    return PlantedCurve(x, 0.6 + skewed(x - optimum, curvature, skew), seed_noise(x, deviation), optimum)


def two_peaks(x: Array, left: float, right: float, *, deviation: float = 0.01) -> PlantedCurve:
    """Two bumps of height 0.1, the right one half a point higher, with a valley between them.

    Args:
        x: log positions, shape [cells].
        left: x of the left bump.
        right: x of the right bump.
        deviation: standard deviation of one seed in the middle of the ladder.

    Returns:
        The curve; `optimum` is the higher maximum of the sum, `second` the lower one.
    """

    def mean(z: Array) -> Array:
        bumps = 0.1 * np.exp(-0.5 * (z - left) ** 2) + 0.105 * np.exp(-0.5 * (z - right) ** 2)
        return np.asarray(0.5 + bumps)

    near = np.linspace(-0.7, 0.7, 4001)
    tops = [float(side + near[np.argmax(mean(side + near))]) for side in (left, right)]
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
    """Curves whose optima follow a power law of width, up to a normal lack of fit.

    Args:
        generator: source of the lack of fit.
        widths: the widths.
        x: log positions of the cells, shared by all widths, shape [cells].
        slope: exponent of width.
        middle: x of the optimum at the mean log width.
        lack_of_fit: standard deviation τ of a width's own departure from the law.
        curvature: see `skewed`.
        deviation: see `seed_noise`.

    Returns:
        One curve for each width.
    """
    logs = np.log(np.asarray(widths, dtype=np.float64))
    places = middle + slope * (logs - logs.mean()) + lack_of_fit * generator.standard_normal(logs.size)
    return [planted_curve(x, float(place), curvature=curvature, deviation=deviation) for place in places]


def failures(
    generator: np.random.Generator, rates: Array, median: float, spread: float, seeds: int, fractal: float = 0.0
) -> Array:
    """Failures of several seeds on a ladder of rates, with log-normal thresholds.

    Args:
        generator: source of the thresholds.
        rates: learning rates, increasing, shape [cells].
        median: median threshold.
        spread: standard deviation of the log threshold over seeds.
        seeds: number of seeds.
        fractal: probability that a rate above the threshold is stable after all.

    Returns:
        1 where failed and 0 where stable, shape [seeds, cells].
    """
    thresholds = median * np.exp(spread * generator.standard_normal((seeds, 1)))
    failed = rates[None, :] >= thresholds
    spared = generator.random(failed.shape) < fractal
    return (failed & ~spared).astype(np.float64)
