"""The trend of a metric with width: the mean over seeds of each seed's trend, with its interval.

The values at a width may share an error: the height of a peak is read from a curve whose shape is uncertain, and this
uncertainty is the same for all seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, isotonic_regression
from scipy.special import stdtr
from scipy.stats import rankdata

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, student_quantile
from noisescale.laws.interval import half_width_without_spread, mean_over_seeds

Array = NDArray[np.float64]

# Draws of the errors that the seeds share, for the interval of the rank correlation.
_DRAWS = 1000


@dataclass(frozen=True)
class Trend:
    """The trend of a metric over width.

    Args:
        direction: rising, falling, mixed (some neighbouring widths rise and others fall) or flat (no change detected).
        gain_per_doubling: Change of the metric per doubling of width, by least squares, averaged over seeds.
        spearman: Rank correlation of the metric with width within a seed, averaged over seeds. The ends of its interval
            are clipped to [-1, 1].
        steps: Change from each width to the next, with intervals that hold simultaneously at 95 % (Bonferroni).
        widths: Widths, increasing.
        means: Mean of the metric at each width, each with a separate interval.
        isotonic: Non-decreasing sequence that is closest to `means`. Neighbouring means that violate the order are
            pooled.
        seeds: Number of seeds that every width has.
    """

    direction: str
    gain_per_doubling: Estimate
    spearman: Estimate
    steps: tuple[Estimate, ...]
    widths: tuple[float, ...]
    means: tuple[Estimate, ...]
    isotonic: tuple[float, ...]
    seeds: int


def trend(
    widths: Array,
    values: Array,
    *,
    unit: str = "fraction",
    confidence: float = 0.95,
    shared_errors: Array | None = None,
) -> Trend:
    """Describe the trend of a per-seed quantity over widths.

    Each seed has a slope on log2 width and a rank correlation. Their means over seeds have Student t intervals, whose
    coverage does not depend on the correlation of errors between widths. Errors that all seeds share widen them.

    Args:
        widths: At least two widths, increasing, shape [W].
        values: Quantity of at least three seeds, shape [seeds, W]. A row holds one seed at all widths.
        unit: Unit of the quantity.
        confidence: Level of the intervals.
        shared_errors: Standard error that the values of all seeds share at each width, independent between widths,
            shape [W]. Default: none.

    Returns:
        The trend.

    Raises:
        BadInput: The shapes do not fit, the widths do not increase, or a value is not finite.
    """
    w, y = np.asarray(widths, dtype=np.float64), np.asarray(values, dtype=np.float64)
    errors = np.zeros(w.shape) if shared_errors is None else np.asarray(shared_errors, dtype=np.float64)
    if y.ndim != 2 or y.shape[1] != w.size or w.size < 2 or y.shape[0] < 3 or errors.shape != w.shape:
        required = "values[seeds, widths] with at least two widths and three seeds, and shared_errors[widths]"
        raise BadInput("trend", required, y.shape)
    if not (np.all(np.isfinite(y)) and np.all(np.isfinite(errors))) or np.any(np.diff(w) <= 0):
        raise BadInput("trend", "finite values and errors at increasing widths", w.tolist())

    def mean(combination: Array, convention: str, level: float = confidence) -> Estimate:
        error = float(np.sqrt(np.sum((combination * errors) ** 2)))
        return mean_over_seeds(y @ combination, unit, convention, level, shared_error=error)

    octaves, each = np.log2(w) - np.log2(w).mean(), np.eye(w.size)
    gain = mean(octaves / np.sum(octaves**2), "per doubling of width")
    joint = 1 - (1 - confidence) / (w.size - 1)
    steps = tuple(
        mean(each[i + 1] - each[i], f"width {w[i + 1]:g} minus {w[i]:g}, simultaneous 95 %", joint)
        for i in range(w.size - 1)
    )
    return Trend(
        _direction(gain, steps),
        gain,
        _rank_correlation(y, errors, confidence),
        steps,
        tuple(float(value) for value in w),
        tuple(mean(each[i], f"at width {w[i]:g}") for i in range(w.size)),
        tuple(float(value) for value in isotonic_regression(y.mean(axis=0)).x),
        y.shape[0],
    )


def _rank_correlation(y: Array, errors: Array, confidence: float) -> Estimate:
    """Return the mean over seeds of the rank correlation with width.

    The interval averages the t intervals over draws of the shared errors. The rank correlation is not linear in the
    errors, so that they cannot be added to its standard error.
    """
    seeds, widths = y.shape
    convention = "Spearman correlation with width within a seed, mean over seeds"
    correlations = _spearman(y)
    value = float(correlations.mean())
    draws = np.zeros((1, widths))
    if errors.any():
        draws = np.random.default_rng(0).standard_normal((_DRAWS, widths)) * errors
    drawn = _spearman(y[None] + draws[:, None, :])
    # Where all seeds agree, the error is that of a count: exchanging two neighbors is the smallest change.
    smallest = 12 / (widths**3 - widths)
    floor = half_width_without_spread(seeds, smallest, confidence) / student_quantile(seeds - 1, (1 + confidence) / 2)
    centers, spreads = drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / math.sqrt(seeds)
    spreads = np.where(np.ptp(drawn, axis=1) <= 1e-12, floor, spreads)
    ends = [_quantile(centers, spreads, seeds - 1, (1 + side * confidence) / 2) for side in (-1, 1)]
    return Estimate(value, max(min(ends[0], value), -1.0), min(max(ends[1], value), 1.0), "1", convention)


def _spearman(y: Array) -> Array:
    """Return the rank correlation of the last axis with its order; 0 if all values are equal."""
    widths = y.shape[-1]
    ranks = rankdata(y, axis=-1) - (widths + 1) / 2
    order = np.arange(widths) - (widths - 1) / 2
    size = np.sqrt(np.sum(ranks**2, axis=-1) * np.sum(order**2))
    return np.asarray(np.where(size > 0, ranks @ order / np.where(size > 0, size, 1.0), 0.0))


def _quantile(centers: Array, errors: Array, degrees: int, probability: float) -> float:
    """Return a quantile of an even mixture of t distributions."""
    far = student_quantile(degrees, 1 - 1e-6) * float(errors.max()) + 1e-9

    def excess(position: float) -> float:
        return float(np.mean(stdtr(degrees, (position - centers) / errors))) - probability

    return float(brentq(excess, float(centers.min()) - far, float(centers.max()) + far, xtol=1e-9))


def _direction(gain: Estimate, steps: tuple[Estimate, ...]) -> str:
    up, down = any(step.low > 0 for step in steps), any(step.high < 0 for step in steps)
    if up and down:
        return "mixed"
    if gain.low > 0 and not down:
        return "rising"
    if gain.high < 0 and not up:
        return "falling"
    return "flat"
