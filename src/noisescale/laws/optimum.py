"""The position of a metric's optimum along a ladder of rates or noise scales, with a confidence set.

A ladder is an increasing sequence of rates or noise scales, and a cell is one of its values, measured by several seeds.
The set inverts a test. It contains a position if two Student t tests over seeds do not reject it: the derivative of the
mean curve there is zero, and the curve there is as high as at its top. Both statistics are linear in each seed's curve,
so each seed is one independent sample. The test assumes no distribution of the argmax.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.estimate import CONFIDENCE, Estimate, no_estimate, student_quantile, two_sided
from noisescale.laws.cubic_fits import BANDWIDTH, MINIMUM_CELLS, LocalCubic, local_cubic
from noisescale.laws.interval import mean_over_seeds
from noisescale.laws.peaks import local_quadratic, separated_peaks
from noisescale.laws.sharp_peaks import bias, sharp_peak, t_statistic

Array = NDArray[np.float64]

MINIMUM_SEEDS = 3

OPTIMUM_ADVICE = {
    "interior": "the optimum lies inside the ladder",
    "censored_low": "the best cell is the lowest usable cell: extend the ladder downward, or train longer",
    "censored_high": "the best cell is the highest usable cell: extend the ladder upward, or train longer",
    "not_identified_low": "the lower end is not identified: extend the ladder downward or add seeds",
    "not_identified_high": "the upper end is not identified: extend the ladder upward or add seeds",
    "flat": "no side is identified: the metric does not change by more than its noise; add seeds",
    "two_peaks": "two separated peaks: both are reported, and neither is taken as the optimum",
    "too_few_cells": f"fewer than {MINIMUM_CELLS} usable cells: refine or extend the ladder",
    "too_few_seeds": f"fewer than {MINIMUM_SEEDS} seeds: no interval over seeds exists",
}


@dataclass(frozen=True)
class Peak:
    """One maximum of a curve.

    Args:
        label: Key of `OPTIMUM_ADVICE`.
        place: Position x of the maximum (the end of the ladder if censored) with its 95 % set. An end of the set is
            infinite if it is not identified.
        standard_error: Standard error of x: the jackknife error over seeds, or the set's half-width divided by the t
            quantile if that is larger.
        height: Mean metric at the maximum, cross-fitted: each seed's curve is evaluated at the position that the other
            seeds choose. The interval is Student's t over seeds. If the peak is too sharp for its ladder, the height is
            the median over several curves through the means, and its interval contains the interval of each curve.
        height_by_seed: Cross-fitted metric of each seed.
    """

    label: str
    place: Estimate
    standard_error: float
    height: Estimate
    height_by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Optimum:
    """The optimum of one curve, with diagnostics.

    Args:
        label: interior, censored_low, censored_high, not_identified_low, not_identified_high, flat, two_peaks,
            too_few_cells or too_few_seeds.
        advice: Meaning of the label, and the remedy.
        place: Position x of the optimum (the higher peak, if there are two) with its 95 % set; NaN without a fit. An
            end of the set is infinite if it is not identified. If there are two peaks and neither is significantly
            higher, the set spans both.
        standard_error: Standard error of x: the jackknife error over seeds, or the set's half-width divided by the t
            quantile if that is larger.
        height: Mean metric at the optimum, cross-fitted: each seed's curve is evaluated at the position that the other
            seeds choose.
        height_by_seed: Cross-fitted metric of each seed.
        peaks: The higher peak, then the second peak if there is one; empty without a fit.
        argmax: Position x of the cell with the best mean (a diagnostic).
        indistinguishable: Positions x of the cells that a paired t test does not distinguish from the best cell (a
            diagnostic, not an interval).
        seeds: Number of seeds.
        cells: Number of usable cells.
    """

    label: str
    advice: str
    place: Estimate
    standard_error: float
    height: Estimate
    height_by_seed: tuple[float, ...]
    peaks: tuple[Peak, ...]
    argmax: float
    indistinguishable: tuple[float, ...]
    seeds: int
    cells: int

    @property
    def censored(self) -> int:
        """-1 if the optimum is at or below the low end of the ladder, 1 if at or above the high end, 0 otherwise."""
        return {"censored_low": -1, "censored_high": 1}.get(self.label, 0)

    @property
    def has_value(self) -> bool:
        """Return whether the fit gave a position (possibly an end of the ladder)."""
        return math.isfinite(self.place.value)


def optimum(
    x: Array,
    y: Array,
    usable: NDArray[np.bool_] | None = None,
    *,
    maximize: bool = True,
    report: Array | None = None,
    bandwidth: float = BANDWIDTH,
    confidence: float = CONFIDENCE,
) -> Optimum:
    """Locate the optimum of a curve measured by several seeds, with its confidence set.

    Let h_s(x) and d_s(x) be the height and derivative of seed s's local cubic, and x̂ the top of the mean curve. The set
    is the smallest interval that contains all x with |mean d_s(x)| <= t·SE (two-sided) and
    mean(h_s(x̂) - h_s(x)) <= t·SE (one-sided, same level). Both ends then move outward by the bias of the local cubic. A
    set that reaches an end of the ladder is infinite there.

    Args:
        x: Natural logarithm of the learning rate or of the noise scale, increasing, shape [cells].
        y: Metric of each seed, paired over cells, shape [seeds, cells].
        usable: Mask of the cells to use (no run failed, and training has converged), shape [cells]. Default: all cells.
        maximize: False for a loss.
        report: Metric whose height is reported at the optimum, shape [seeds, cells]. Default: `y`.
        bandwidth: Bandwidth of the local cubic, in units of x.
        confidence: Level of every interval.

    Returns:
        The optimum, with a label that says how far to trust it.

    Raises:
        BadInput: The shapes do not fit, x does not increase, or a usable cell is not finite.

    Source:
        Test inversion on per-seed derivatives; coverage in `benchmarks/coverage.py`.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    keep = np.ones(x.shape, dtype=bool) if usable is None else np.asarray(usable, dtype=bool)
    report = y if report is None else np.asarray(report, dtype=np.float64)
    if y.ndim != 2 or x.shape != (y.shape[1],) or keep.shape != x.shape or report.shape != y.shape:
        raise BadInput("optimum", "x[cells], y[seeds, cells], usable[cells] and report[seeds, cells]", y.shape)
    if np.any(np.diff(x) <= 0):
        raise BadInput("optimum", "x must increase from cell to cell", x.tolist())
    if not (np.all(np.isfinite(y[:, keep])) and np.all(np.isfinite(x[keep])) and np.all(np.isfinite(report[:, keep]))):
        raise BadInput("optimum", "every usable cell must be finite", "NaN or infinity")
    x, report = x[keep], report[:, keep]
    y = y[:, keep] if maximize else -y[:, keep]
    seeds, cells = y.shape
    argmax, equal_cells = _indistinguishable(x, y, confidence)
    if seeds < MINIMUM_SEEDS or cells < MINIMUM_CELLS:
        label = "too_few_seeds" if seeds < MINIMUM_SEEDS else "too_few_cells"
        height = no_estimate("metric", "no fit")
        no_position = _position(math.nan, math.nan, math.nan)
        return Optimum(
            label, OPTIMUM_ADVICE[label], no_position, math.nan, height, (), (), argmax, equal_cells, seeds, cells
        )
    maps = local_cubic(x, bandwidth)
    ranges = separated_peaks(x, y, local_quadratic(x) @ y.mean(axis=0))
    peaks = tuple(_peak(maps, x, y, report, p.cell, p.first, p.last, confidence) for p in ranges)
    best = peaks[0]
    low, high, label = best.place.low, best.place.high, best.label
    if len(peaks) == 2:
        label = "two_peaks"
        if _equally_high(maps, y, best.place.value, peaks[1].place.value, confidence):
            low, high = min(low, peaks[1].place.low), max(high, peaks[1].place.high)
    return Optimum(
        label=label,
        advice=OPTIMUM_ADVICE[label],
        place=_position(best.place.value, low, high),
        standard_error=best.standard_error,
        height=best.height,
        height_by_seed=best.height_by_seed,
        peaks=peaks,
        argmax=argmax,
        indistinguishable=equal_cells,
        seeds=seeds,
        cells=cells,
    )


def _peak(
    maps: LocalCubic, x: Array, y: Array, report: Array, cell: int, first: int, last: int, confidence: float
) -> Peak:
    inside = np.flatnonzero((maps.grid >= x[first] - 1e-12) & (maps.grid <= x[last] + 1e-12))
    grid, heights, slopes = maps.grid[inside], y @ maps.height[inside].T, y @ maps.slope[inside].T
    top = _climb(heights.mean(axis=0), int(np.argmin(np.abs(grid - x[cell]))))
    value = _crossing(grid, slopes.mean(axis=0), float(grid[top]))
    outward = bias(x, value)
    low, high = _set(grid, heights, slopes, int(np.argmin(np.abs(grid - value))), outward, confidence)
    sharp = sharp_peak(maps, x, y, report, value, (x[first], x[last]))
    if sharp is not None:
        value = float(np.median([value, *sharp.positions]))
        low, high = min(low, sharp.positions.min() - outward), max(high, sharp.positions.max() + outward)
    seeds = y.shape[0]
    left_out = (slopes.sum(axis=0) - slopes) / (seeds - 1)
    tops = np.array([_crossing(grid, slope, value) for slope in left_out])
    error = math.sqrt((seeds - 1) / seeds * float(np.sum((tops - tops.mean()) ** 2)))
    if math.isfinite(high - low):
        # The jackknife misses the bias of the smoother and the width of a flat top.
        error = max(error, (high - low) / 2 / two_sided(seeds - 1, confidence))
    label = _label(int(np.argmin(np.abs(x - value))), x.size, low, high)
    if label in ("censored_low", "censored_high"):
        value = float(x[0] if label == "censored_low" else x[-1])
        tops = np.full(seeds, value)
    rows = inside[np.argmin(np.abs(grid[None, :] - tops[:, None]), axis=1)]
    by_seed = np.sum(report * maps.height[rows], axis=1)
    if sharp is None or label != "interior":
        height = mean_over_seeds(by_seed, "metric", "at the optimum, cross-fitted", confidence)
    else:
        height, by_seed = _height_by_curves(np.vstack([by_seed, sharp.heights]), confidence)
    return Peak(label, _position(value, low, high), error, height, tuple(float(h) for h in by_seed))


def _height_by_curves(heights: Array, confidence: float) -> tuple[Estimate, Array]:
    """Return the height of a sharp peak (each seed's median over the curves) and an interval that spans all curves."""
    by_seed = np.median(heights, axis=0)
    convention = "at the optimum, median of several curves through the means"
    height = mean_over_seeds(by_seed, "metric", convention, confidence)
    by_curve = [mean_over_seeds(curve, "metric", convention, confidence) for curve in heights]
    low, high = min(mean.low for mean in by_curve), max(mean.high for mean in by_curve)
    return Estimate(height.value, low, high, height.unit, height.convention), by_seed


def _position(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, "1", "natural logarithm of the ladder's quantity: ḡ, g or ε")


def _climb(mean: Array, start: int) -> int:
    """Return the index of the local maximum uphill from `start`."""
    k = start
    while k + 1 < mean.size and mean[k + 1] > mean[k]:
        k += 1
    while k > 0 and mean[k - 1] > mean[k]:
        k -= 1
    return k


def _crossing(grid: Array, slope: Array, near: float) -> float:
    """Return the first zero of the slope uphill from `near`, or the end of the grid if there is none.

    The search goes uphill only. A curve that falls after the first cell has its top at this cell, even if it has small
    bumps further down.
    """
    k = int(np.argmin(np.abs(grid - near)))
    if slope[k] > 0:
        while k + 1 < grid.size and slope[k + 1] > 0:
            k += 1
    else:
        while k >= 0 and slope[k] <= 0:
            k -= 1
    if k < 0 or k + 1 == grid.size:
        return float(grid[0] if k < 0 else grid[-1])
    return float(grid[k] + (grid[k + 1] - grid[k]) * slope[k] / (slope[k] - slope[k + 1]))


def _set(grid: Array, heights: Array, slopes: Array, top: int, bias: float, confidence: float) -> tuple[float, float]:
    """Return the ends of the smallest interval around all accepted positions; infinite at an end of the grid."""
    seeds = heights.shape[0]
    excess = np.maximum(
        np.abs(t_statistic(slopes)) - two_sided(seeds - 1, confidence),
        t_statistic(heights[:, [top]] - heights) - student_quantile(seeds - 1, confidence),
    )
    excess[top] = min(excess[top], -1e-9)
    accepted = np.flatnonzero(excess <= 0)
    ends = []
    for k, outward in ((int(accepted[0]), -1), (int(accepted[-1]), 1)):
        if k in (0, grid.size - 1) and not 0 <= k + outward < grid.size:
            ends.append(outward * math.inf)
            continue
        outside = excess[k + outward]
        share = -excess[k] / (outside - excess[k]) if math.isfinite(outside) else 0.0
        ends.append(float(grid[k] + share * (grid[k + outward] - grid[k])) + outward * bias)
    return ends[0], ends[1]


def _equally_high(maps: LocalCubic, y: Array, top: float, other: float, confidence: float) -> bool:
    """Return whether a one-sided paired t test fails to show that `top` is higher than `other`."""
    rows = [int(np.argmin(np.abs(maps.grid - position))) for position in (top, other)]
    difference = y @ (maps.height[rows[0]] - maps.height[rows[1]])
    return bool(t_statistic(difference[:, None])[0] <= student_quantile(y.shape[0] - 1, confidence))


def _label(nearest: int, cells: int, low: float, high: float) -> str:
    open_low, open_high = math.isinf(low), math.isinf(high)
    if open_low and open_high:
        return "flat"
    if open_low:
        return "censored_low" if nearest == 0 else "not_identified_low"
    if open_high:
        return "censored_high" if nearest == cells - 1 else "not_identified_high"
    return "interior"


def _indistinguishable(x: Array, y: Array, confidence: float) -> tuple[float, tuple[float, ...]]:
    if y.size == 0:
        return math.nan, ()
    best = int(np.argmax(y.mean(axis=0)))
    equal = np.zeros(x.size, dtype=bool)
    if y.shape[0] > 1:
        equal = t_statistic(y[:, [best]] - y) <= two_sided(y.shape[0] - 1, confidence)
    equal[best] = True
    return float(x[best]), tuple(float(position) for position in x[equal])
