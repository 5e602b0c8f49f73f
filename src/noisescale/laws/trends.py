"""The trend of a metric with width: the mean over seeds of each seed's trend, with Student t intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from noisescale.errors import BadInput
from noisescale.estimate import Estimate
from noisescale.laws.interval import mean_over_seeds

Array = NDArray[np.float64]


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


def trend(widths: Array, values: Array, *, unit: str = "fraction", confidence: float = 0.95) -> Trend:
    """Describe the trend of a per-seed quantity over widths.

    Each seed has a slope on log2 width and a rank correlation. Their means over seeds have Student t intervals, whose
    coverage does not depend on the correlation of errors between widths.

    Args:
        widths: At least two widths, increasing, shape [W].
        values: Quantity of at least three seeds, shape [seeds, W]. A row holds one seed at all widths.
        unit: Unit of the quantity.
        confidence: Level of the intervals.

    Returns:
        The trend.

    Raises:
        BadInput: The shapes do not fit, the widths do not increase, or a value is not finite.
    """
    w, y = np.asarray(widths, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if y.ndim != 2 or y.shape[1] != w.size or w.size < 2 or y.shape[0] < 3:
        raise BadInput("trend", "values[seeds, widths] with at least two widths and three seeds", y.shape)
    if not np.all(np.isfinite(y)) or np.any(np.diff(w) <= 0):
        raise BadInput("trend", "finite values at increasing widths", w.tolist())
    octaves = np.log2(w) - np.log2(w).mean()
    gain = mean_over_seeds(y @ octaves / np.sum(octaves**2), unit, "per doubling of width", confidence)
    ranks = rankdata(y, axis=1) - (w.size + 1) / 2
    order = np.arange(w.size) - (w.size - 1) / 2
    size = np.sqrt(np.sum(ranks**2, axis=1) * np.sum(order**2))
    correlation = np.where(size > 0, ranks @ order / np.where(size > 0, size, 1.0), 0.0)
    rho = mean_over_seeds(correlation, "1", "Spearman correlation with width within a seed", confidence)
    rho = Estimate(rho.value, max(rho.low, -1.0), min(rho.high, 1.0), rho.unit, rho.convention)
    joint = 1 - (1 - confidence) / (w.size - 1)
    steps = tuple(
        mean_over_seeds(y[:, i + 1] - y[:, i], unit, f"width {w[i + 1]:g} minus {w[i]:g}, simultaneous 95 %", joint)
        for i in range(w.size - 1)
    )
    means = tuple(mean_over_seeds(y[:, i], unit, f"at width {w[i]:g}", confidence) for i in range(w.size))
    return Trend(
        _direction(gain, steps),
        gain,
        rho,
        steps,
        tuple(float(value) for value in w),
        means,
        tuple(float(value) for value in isotonic_regression(y.mean(axis=0)).x),
        y.shape[0],
    )


def _direction(gain: Estimate, steps: tuple[Estimate, ...]) -> str:
    up, down = any(step.low > 0 for step in steps), any(step.high < 0 for step in steps)
    if up and down:
        return "mixed"
    if gain.low > 0 and not down:
        return "rising"
    if gain.high < 0 and not up:
        return "falling"
    return "flat"
