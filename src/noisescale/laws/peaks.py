"""Where the peaks of a measured curve are: a local quadratic smooth, and a rule for when two peaks are two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import student_quantile

Array = NDArray[np.float64]

_SMOOTHED_CELLS = 5
# Peaks closer than an octave are one peak to anybody who sets a rate.
SEPARATION = math.log(2)
# One-sided level of each of the two tests "peak above valley". The valley is chosen on the same seeds, so the level
# is stricter than 2.5 %; benchmarks/coverage.py shows the share of single peaks that are called two.
_LEVEL = 0.005


@dataclass(frozen=True)
class PeakPlace:
    """A peak's cell and the range of cells that belong to it.

    Args:
        cell: index of the peak.
        first: first index of its side of the valley.
        last: last index of its side of the valley.
    """

    cell: int
    first: int
    last: int


def local_quadratic(x: Array) -> Array:
    """Matrix that smooths a curve by least-squares quadratics through the five nearest cells.

    Args:
        x: positions, increasing, not necessarily evenly spaced, shape [cells] with at least five cells.

    Returns:
        The matrix L, shape [cells, cells]: L @ y is the smooth.
    """
    cells = x.size
    matrix = np.zeros((cells, cells))
    for i in range(cells):
        first = min(max(i - _SMOOTHED_CELLS // 2, 0), cells - _SMOOTHED_CELLS)
        inside = slice(first, first + _SMOOTHED_CELLS)
        matrix[i, inside] = np.linalg.pinv(np.vander(x[inside] - x[i], 3, increasing=True))[0]
    return matrix


def separated_peaks(x: Array, y: Array, smooth: Array) -> tuple[PeakPlace, ...]:
    """The highest peak, and a second one where the seeds show a valley between the two.

    Two local maxima of the smooth count as two peaks when they are at least an octave apart and the lowest cell
    between them lies below both by one-sided paired t tests over seeds, on the raw cells.

    Args:
        x: positions, shape [cells].
        y: the metric to be maximized, shape [seeds, cells].
        smooth: smooth of the mean, shape [cells].

    Returns:
        One or two places, the higher first.
    """
    padded = np.concatenate([[-np.inf], smooth, [-np.inf]])
    maxima = np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))
    top = int(np.argmax(smooth))
    threshold = student_quantile(y.shape[0] - 1, 1 - _LEVEL)
    second, valley, evidence = -1, -1, threshold
    for other in (int(cell) for cell in maxima if cell != top):
        if abs(x[other] - x[top]) < SEPARATION or abs(other - top) < 2:
            continue
        between = np.arange(min(top, other) + 1, max(top, other))
        lowest = int(between[np.argmin(smooth[between])])
        strength = min(_paired_t(y[:, top] - y[:, lowest]), _paired_t(y[:, other] - y[:, lowest]))
        if strength > evidence:
            second, valley, evidence = other, lowest, strength
    if second < 0:
        return (PeakPlace(top, 0, x.size - 1),)
    sides = {True: (0, valley), False: (valley, x.size - 1)}
    return (PeakPlace(top, *sides[top < valley]), PeakPlace(second, *sides[second < valley]))


def _paired_t(difference: Array) -> float:
    spread = float(np.std(difference, ddof=1))
    mean = float(np.mean(difference))
    if spread == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread * math.sqrt(difference.size)
