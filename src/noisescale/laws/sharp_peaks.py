"""The top of a peak that is too sharp for its ladder: the spread of several curves through the same means.

A ladder is the sequence of positions (cells) at which seeds measured the curve. The means are the averages over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from noisescale.estimate import student_quantile
from noisescale.laws.cubic_fits import MINIMUM_CELLS, LocalCubic

Array = NDArray[np.float64]

# Allowance for the bias of the local cubic, which the scatter of the seeds does not show, on a ladder of factor √2. It
# is in the unit of x, a natural logarithm. The local cubic misplaces noiseless skewed peaks
# (`planted_curves.skewed`, default skew) by at most 0.009. On ladders like those of the quickstart, with five or six
# cells, it misplaces them by up to 0.03. At the worst width of these ladders, intervals cover the peak in 91 % of the
# draws with an allowance of 0.01, in 96 % with 0.015 and in 97 % with 0.02. `sharp_peak` tests for larger misfits.
_BIAS = 0.02
# Level of the test for a misfit. It is high, because missing a real misfit is costly and a false alarm is cheap. For a
# tent-shaped curve with its tip between the cells of a √2 ladder and six seeds, intervals cover the tip in 83 % of the
# draws at a level of 20 % and in 91 % at this level. The half-width for a smooth skewed peak grows by a tenth
# (`benchmarks/coverage.py`).
_MISFIT_LEVEL = 0.5


@dataclass(frozen=True)
class SharpPeak:
    """The tops of several curves through the same means.

    Args:
        positions: Position x of each curve's top, shape [curves].
        heights: Reported metric at the top, from each seed's curve, shape [curves, seeds]. For the splines, the
            position of a seed's top is chosen by the other seeds.
    """

    positions: Array
    heights: Array


def bias(x: Array, position: float) -> float:
    """Return the distance by which each finite end of a confidence set moves outward, larger on a coarser ladder.

    Args:
        x: Increasing positions of the cells, shape [cells].
        position: Position x of the peak.

    Returns:
        The distance in units of x: 0.02 on a ladder of factor √2 or finer, 0.057 on a ladder of factor 2.

    Source:
        Coverage of ladders of factor √2 and 2 in `benchmarks/coverage.py`.
    """
    left = int(np.clip(np.searchsorted(x, position) - 1, 0, x.size - 2))
    step = float(x[left + 1] - x[left]) / math.log(math.sqrt(2))
    return _BIAS * float(max(1.0, step) ** 1.5)


def sharp_peak(
    maps: LocalCubic, x: Array, y: Array, report: Array, value: float, ends: tuple[float, float]
) -> SharpPeak | None:
    """Return the tops of alternative curves through the means, if the local cubic does not fit the means.

    When seeds agree closely, the spacing of the ladder and not their noise limits the precision of a sharp peak. The
    smoother's bias then dominates, and other curves through the same means show its size: two cubic splines, Akima's
    spline, which does not overshoot at a kink, and straight lines from both sides, which meet at the tip of a tent.

    Args:
        maps: Local cubic of the ladder.
        x: Positions of the cells, shape [cells].
        y: Metric to maximize, shape [seeds, cells].
        report: Metric whose height is reported, shape [seeds, cells].
        value: Position of the local cubic's top.
        ends: Positions x of the first and last cell of this peak's part of the ladder.

    Returns:
        The tops of the other curves, or None if the local cubic fits the means within the noise.

    Source:
        Akima 1970 (his spline); coverage of sharp peaks in `benchmarks/coverage.py`.
    """
    near = np.argsort(np.abs(x - value), kind="stable")[:MINIMUM_CELLS]
    at_cells = np.searchsorted(maps.grid, x[near] - 1e-9)
    residuals = y[:, near] - y @ maps.height[at_cells].T
    # If the means lie on a cubic, the residuals are rounding errors. They are not a misfit, although they may be equal
    # for all seeds.
    residuals[np.abs(residuals) < 1e-9 * np.ptp(y)] = 0.0
    misfit = np.abs(t_statistic(residuals)).max()
    if misfit <= student_quantile(y.shape[0] - 1, 1 - _MISFIT_LEVEL / (2 * near.size)):
        return None
    inside = (maps.grid >= max(ends[0], x[near].min())) & (maps.grid <= min(ends[1], x[near].max()))
    grid, mean = maps.grid[inside], y.mean(axis=0)
    left_out = (y.sum(axis=0) - y) / (y.shape[0] - 1)
    positions, heights = [], []
    for curve in _CURVES:
        positions.append(float(grid[np.argmax(curve(x, mean)(grid))]))
        chosen = grid[np.argmax(curve(x, left_out.T)(grid), axis=0)]
        # Evaluate distinct positions only: ten thousand seeds at ten thousand positions would fill the memory.
        tops, which = np.unique(chosen, return_inverse=True)
        heights.append(curve(x, report.T)(tops)[which, np.arange(which.size)])
    for left, tip in _tips(x, mean):
        if grid[0] <= tip <= grid[-1]:
            positions.append(tip)
            heights.append((_line(x, report.T, left - 1, tip) + _line(x, report.T, left + 1, tip)) / 2)
    return SharpPeak(np.array(positions), np.array(heights))


def _natural(x: Array, y: Array) -> CubicSpline:
    return CubicSpline(x, y, bc_type="natural")


_CURVES = (_natural, CubicSpline, Akima1DInterpolator)


def _line(x: Array, y: Array, left: int, position: float) -> Array:
    """Evaluate at `position` the straight line through cell `left` and the next cell; y has shape [cells, seeds]."""
    share = float((position - x[left]) / (x[left + 1] - x[left]))
    return np.asarray(y[left] + share * (y[left + 1] - y[left]))


def _tips(x: Array, mean: Array) -> Iterator[tuple[int, float]]:
    """Yield the intersections of the lines through two cells on each side, for the two gaps beside the best cell."""
    best = int(np.argmax(mean))
    for left in (best - 1, best):
        if left < 1 or left + 2 >= x.size:
            continue
        rise = (mean[left] - mean[left - 1]) / (x[left] - x[left - 1])
        fall = (mean[left + 2] - mean[left + 1]) / (x[left + 2] - x[left + 1])
        if rise > 0 > fall:
            tip = x[left] + (mean[left + 1] - mean[left] - fall * (x[left + 1] - x[left])) / (rise - fall)
            if x[left] <= tip <= x[left + 1]:
                yield left, float(tip)


def t_statistic(values: Array) -> Array:
    """Return Student's t of the mean over seeds (rows); infinite where all seeds have the same nonzero value."""
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / math.sqrt(values.shape[0])
    # Identical seeds still differ by rounding errors near 1e-16.
    tiny = 1e-12 * (np.abs(values).max() + 1e-300)
    certain = np.where(np.abs(mean) > tiny, np.copysign(math.inf, mean), 0.0)
    return np.where(error > tiny, mean / np.where(error > tiny, error, 1.0), certain)
