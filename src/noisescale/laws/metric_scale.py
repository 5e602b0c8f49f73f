"""The scale of a metric on a ladder: a level and a span, from which its values become plain numbers of order one.

Fits in these units do not depend on the units of the metric, and values that are absurd but finite do no harm.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisescale.estimate import Estimate
from noisescale.laws.optima import Optimum, Peak
from noisescale.training import LOSS, METRICS, USER_LOSS_UNIT

Array = NDArray[np.float64]
Record = TypeVar("Record", Optimum, Peak)

# A cell has blown up if its drop below the best exceeds that of the next better cell, and the noise, by this factor.
# The three best cells have not.
_BLOWN_UP = 1000.0
# Differences below this share of the metric's size are rounding.
_ROUNDING = 1e-9
# Values this many spans from the best cell count as if they were there.
_FURTHEST = 1e6


@dataclass(frozen=True)
class MetricScale:
    """The scale of a metric to maximize.

    Args:
        level: Metric of the best cell.
        span: Span of the metric.
    """

    level: float
    span: float

    def units(self, values: Array) -> Array:
        """Return values of the metric in spans above the best cell."""
        with np.errstate(over="ignore"):
            return np.clip((np.asarray(values, dtype=np.float64) - self.level) / self.span, -_FURTHEST, _FURTHEST)

    def metric(self, record: Record, sign: float) -> Record:
        """Return an optimum or a peak with its heights in the metric's units.

        Args:
            record: Optimum or peak with heights in spans above the best cell.
            sign: 1 for a metric to maximize, -1 for one to minimize.
        """
        by_seed = tuple(sign * (self.level + self.span * height) for height in record.height_by_seed)
        shape_error = self.span * record.shape_error
        return replace(
            record, height=self._height(record.height, sign), height_by_seed=by_seed, shape_error=shape_error
        )

    def _height(self, height: Estimate, sign: float) -> Estimate:
        value, *ends = (sign * (self.level + self.span * end) for end in (height.value, height.low, height.high))
        low, high = ends if sign > 0 else ends[::-1]
        return replace(height, value=value, low=low, high=high, standard_error=self.span * height.standard_error)


def fitted_values(values: ArrayLike, metric: str) -> Array:
    """Return values of a metric on the scale on which curves are fitted: the logarithm of a perplexity.

    Args:
        values: Values of the metric.
        metric: Its name.
    """
    values = np.asarray(values, dtype=np.float64)
    if not METRICS[metric].logarithmic:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(values))


def fitted_unit(metric: str, unit: str) -> str:
    """Return the unit of differences on the scale on which curves are fitted."""
    return "nats" if METRICS[metric].logarithmic else unit


def metric_values(fitted: ArrayLike, metric: str, unit: str) -> Array:
    """Return values or ends of intervals in the metric's unit, within its range: a fraction is from 0 to 1.

    Args:
        fitted: Values on the scale on which curves are fitted.
        metric: Name of the metric.
        unit: Its unit. That of a user's loss, which may be negative, is "loss".
    """
    row, values = METRICS[metric], np.asarray(fitted, dtype=np.float64)
    if row.logarithmic:
        with np.errstate(over="ignore"):
            values = np.exp(values)
    return values if metric == LOSS and unit == USER_LOSS_UNIT else np.clip(values, row.least, row.largest)


def metric_scale(y: Array, constant: float) -> MetricScale:
    """Return the scale of a metric on a ladder.

    Args:
        y: Metric to maximize, NaN where a run failed, shape [seeds, cells].
        constant: Metric of the constant predictor; NaN if unknown.

    Returns:
        The scale. Its span is the distance from the constant predictor to the best cell. If the constant is unknown, or
        no cell is better, the span is twice the distance from the median cell to the best, without cells that have
        blown up.
    """
    with warnings.catch_warnings():
        # A cell without any surviving run has no median.
        warnings.simplefilter("ignore", RuntimeWarning)
        centers = np.nanmedian(y, axis=0)
    if not np.isfinite(centers).any():
        return MetricScale(0.0, 1.0)
    cells = np.argsort(-centers[np.isfinite(centers)])
    table = y[:, np.isfinite(centers)][:, cells]
    centers = centers[np.isfinite(centers)][cells]
    best = float(centers[0])
    if math.isfinite(constant) and best - constant > _ROUNDING * abs(best):
        return MetricScale(best, best - constant)
    with np.errstate(over="ignore"):
        drops = np.minimum(best - centers, np.finfo(np.float64).max / 4)
        noise = float(np.nanmedian(np.abs(table[:, :3] - centers[:3])))
    previous = np.maximum(drops[2:-1], noise)
    jumps = np.flatnonzero((drops[3:] / _BLOWN_UP > previous) & (previous > _ROUNDING * abs(best)))
    if jumps.size:
        drops = drops[: jumps[0] + 3]
    span = max(2 * float(np.median(drops)), noise, _ROUNDING * abs(best))
    return MetricScale(best, span if span > 0 else 1.0)
