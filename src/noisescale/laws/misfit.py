"""What is known of a peak as sharp as its ladder is fine: the tops of several curves through the same means."""

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

# What a smoother may misplace a peak by without its seeds showing it, in nats, on a ladder of factor √2. The local
# cubic misplaces noiseless skewed peaks (`planted.skewed`, its default skew) by at most 0.009 there, and those of the
# quickstart's own design, which have five or six cells, by up to 0.03: with 0.01 the worst of its widths is covered in
# 91 % of the draws, with 0.015 in 96 %, with this in 97 %. Larger misfits are tested.
_BIAS = 0.02
# A misfit that matters must not be missed, and a needless one costs little: the tip of a tent between the cells of a √2
# ladder is covered by six seeds in 83 % of the draws at a level of 20 % and in 91 % at this one, a skewed peak's
# half-width grows by a tenth (`benchmarks/coverage.py`).
_MISFIT_LEVEL = 0.5


@dataclass(frozen=True)
class SharpPeak:
    """What several curves through the same means say of one peak.

    Args:
        places: x of each curve's top, shape [curves].
        heights: the reported metric there, read off each seed's own such curve, and for the splines at the place that
            the other seeds choose, shape [curves, seeds].
    """

    places: Array
    heights: Array


def bias(x: Array, place: float) -> float:
    """How far every finite end of a set is moved outward: more on a coarser ladder.

    Args:
        x: positions of the cells, increasing, shape [cells].
        place: x of the peak.

    Returns:
        0.02 nats on a ladder of factor √2 or finer, 0.057 where its factor is 2.

    Source:
        coverage of ladders of factor √2 and 2 in `benchmarks/coverage.py`.
    """
    left = int(np.clip(np.searchsorted(x, place) - 1, 0, x.size - 2))
    step = float(x[left + 1] - x[left]) / math.log(math.sqrt(2))
    return _BIAS * float(max(1.0, step) ** 1.5)


def sharp_peak(
    maps: LocalCubic, x: Array, y: Array, report: Array, value: float, side: tuple[float, float]
) -> SharpPeak | None:
    """The tops of the curves that the means allow, where seeds show that the local cubic is not the curve.

    Seeds can be so alike that the ladder, not their noise, limits what is known of a sharp peak. The smoother's bias
    then decides, and curves through the same means show its size: two cubic splines, Akima's, which does not overshoot
    at a kink, and straight lines from both sides, which meet at the tip of a tent.

    Args:
        maps: of the ladder.
        x: positions of the cells, shape [cells].
        y: the metric, larger is better, shape [seeds, cells].
        report: the metric whose height is wanted, shape [seeds, cells].
        value: the local cubic's top.
        side: the part of the ladder that belongs to this peak.

    Returns:
        The tops of the other curves, or None where the local cubic passes through the means as well as noise allows.

    Source:
        Akima 1970 for that spline; coverage of sharp peaks in `benchmarks/coverage.py`.
    """
    near = np.argsort(np.abs(x - value), kind="stable")[:MINIMUM_CELLS]
    at_cells = np.searchsorted(maps.grid, x[near] - 1e-9)
    residuals = y[:, near] - y @ maps.height[at_cells].T
    # What rounding leaves of a curve that is a cubic is no misfit, though seeds without noise agree on it.
    residuals[np.abs(residuals) < 1e-9 * np.ptp(y)] = 0.0
    misfit = np.abs(t_statistic(residuals)).max()
    if misfit <= student_quantile(y.shape[0] - 1, 1 - _MISFIT_LEVEL / (2 * near.size)):
        return None
    inside = (maps.grid >= max(side[0], x[near].min())) & (maps.grid <= min(side[1], x[near].max()))
    grid, mean = maps.grid[inside], y.mean(axis=0)
    left_out = (y.sum(axis=0) - y) / (y.shape[0] - 1)
    places, heights = [], []
    for curve in _CURVES:
        places.append(float(grid[np.argmax(curve(x, mean)(grid))]))
        chosen = grid[np.argmax(curve(x, left_out.T)(grid), axis=0)]
        # Of few distinct places, since ten thousand seeds at as many would fill the memory.
        tops, which = np.unique(chosen, return_inverse=True)
        heights.append(curve(x, report.T)(tops)[which, np.arange(which.size)])
    for left, place in _tips(x, mean):
        if grid[0] <= place <= grid[-1]:
            places.append(place)
            heights.append((_line(x, report.T, left - 1, place) + _line(x, report.T, left + 1, place)) / 2)
    return SharpPeak(np.array(places), np.array(heights))


def _natural(x: Array, y: Array) -> CubicSpline:
    return CubicSpline(x, y, bc_type="natural")


_CURVES = (_natural, CubicSpline, Akima1DInterpolator)


def _line(x: Array, y: Array, left: int, place: float) -> Array:
    """The straight line through cell `left` and the next, at `place`; y has the cells as rows."""
    share = float((place - x[left]) / (x[left + 1] - x[left]))
    return np.asarray(y[left] + share * (y[left + 1] - y[left]))


def _tips(x: Array, mean: Array) -> Iterator[tuple[int, float]]:
    """Where straight lines through the two cells on each side meet, in either gap beside the best cell."""
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
    """Student's t statistic of the mean over seeds (rows); infinite where seeds agree exactly on a non-zero value."""
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / math.sqrt(values.shape[0])
    # Rounding leaves differences of 1e-16 where seeds are copies of each other.
    tiny = 1e-12 * (np.abs(values).max() + 1e-300)
    certain = np.where(np.abs(mean) > tiny, np.copysign(math.inf, mean), 0.0)
    return np.where(error > tiny, mean / np.where(error > tiny, error, 1.0), certain)
