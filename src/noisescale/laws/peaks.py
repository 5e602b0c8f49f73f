"""The peaks of a measured curve: a local quadratic smoother, and a test for two separate peaks.

A cell is a position at which several seeds measured the curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import student_quantile

Array = NDArray[np.float64]

# Number of neighbouring cells through which each quadratic is fitted.
_SMOOTHED_CELLS = 5
# Two peaks less than an octave (a factor 2) apart count as one, because they lead to the same choice of a rate.
SEPARATION = math.log(2)
# One-sided level of each of the two tests "peak above valley". The same seeds choose the valley, so the level is
# stricter than 2.5 %; benchmarks/coverage.py measures how often a single peak is reported as two.
_LEVEL = 0.005


@dataclass(frozen=True)
class PeakRange:
    """The cell of a peak, and the range of cells on its side of the valley (all cells if there is a single peak).

    Args:
        cell: Index of the peak's cell.
        first: Index of the first cell of the range.
        last: Index of the last cell of the range.
    """

    cell: int
    first: int
    last: int


def local_quadratic(x: Array) -> Array:
    """Return the matrix that smooths a curve by least-squares quadratics through the five nearest cells.

    Args:
        x: Increasing positions of at least five cells, which may be unevenly spaced, shape [cells].

    Returns:
        The matrix L, shape [cells, cells]: L @ y is the smoothed curve.
    """
    cells = x.size
    matrix = np.zeros((cells, cells))
    for i in range(cells):
        first = min(max(i - _SMOOTHED_CELLS // 2, 0), cells - _SMOOTHED_CELLS)
        inside = slice(first, first + _SMOOTHED_CELLS)
        matrix[i, inside] = np.linalg.pinv(np.vander(x[inside] - x[i], 3, increasing=True))[0]
    return matrix


def separated_peaks(x: Array, y: Array, smooth: Array) -> tuple[PeakRange, ...]:
    """Return the highest peak, and a second peak if the seeds show a valley between the two.

    Two local maxima of the smoothed curve count as two peaks if they are at least an octave apart and the lowest cell
    between them lies below both, by one-sided paired t tests over seeds on the raw cells.

    Args:
        x: Positions, shape [cells].
        y: Metric to maximize, shape [seeds, cells].
        smooth: Smoothed mean curve, shape [cells].

    Returns:
        One or two peaks, the higher first.
    """
    padded = np.concatenate([[-np.inf], smooth, [-np.inf]])
    maxima = np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))
    top = int(np.argmax(smooth))
    threshold = student_quantile(y.shape[0] - 1, 1 - _LEVEL)
    second_peak, valley, evidence = -1, -1, threshold
    for candidate in (int(cell) for cell in maxima if cell != top):
        if abs(x[candidate] - x[top]) < SEPARATION or abs(candidate - top) < 2:
            continue
        cells_between = np.arange(min(top, candidate) + 1, max(top, candidate))
        lowest = int(cells_between[np.argmin(smooth[cells_between])])
        strength = min(_paired_t(y[:, top] - y[:, lowest]), _paired_t(y[:, candidate] - y[:, lowest]))
        if strength > evidence:
            second_peak, valley, evidence = candidate, lowest, strength
    if second_peak < 0:
        return (PeakRange(top, 0, x.size - 1),)
    sides = {True: (0, valley), False: (valley, x.size - 1)}
    return (PeakRange(top, *sides[top < valley]), PeakRange(second_peak, *sides[second_peak < valley]))


def _paired_t(difference: Array) -> float:
    spread = float(np.std(difference, ddof=1))
    mean = float(np.mean(difference))
    if spread == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread * math.sqrt(difference.size)
