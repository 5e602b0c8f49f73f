"""Two separate peaks of a curve: a test that needs a valley between two heights that are close.

A rise far below the best cell is not a second peak. Of two peaks, one that is significantly lower does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import student_quantile
from noisescale.laws.cell_means import CellMeans

Array = NDArray[np.float64]

# Two peaks less than an octave (a factor 2) apart count as one, because they lead to the same choice of a rate.
SEPARATION = math.log(2)
# One-sided level of each of the two tests "peak above valley", divided by the number of cells (Bonferroni), because the
# same seeds choose the cells. benchmarks/coverage.py measures how often a single peak is reported as two.
_LEVEL = 0.025
# Peaks whose heights differ by less than this share of the span are equally good.
TOLERANCE = 0.005


@dataclass(frozen=True)
class PeakRange:
    """The part of a ladder that belongs to a peak.

    Args:
        low: Position of its low end, at a valley; minus infinity if there is none.
        high: Position of its high end; infinity if there is no valley above.
    """

    low: float
    high: float


def separated_peaks(cells: CellMeans) -> tuple[tuple[PeakRange, ...], str]:
    """Return the range of the highest peak, and that of a second peak if it may be as high.

    A cell is a second peak if it lies at least an octave from the best cell, the lowest cell between them lies below
    both by one-sided tests, and it is not lower than the best cell by more than the tolerance.

    Args:
        cells: The cells near the top of a ladder.

    Returns:
        One or two ranges, the higher first; and "two_peaks" if the heights differ by at most the tolerance,
        "unresolved" if the seeds do not say so, and an empty string for a single peak.
    """
    x, mean = cells.x, cells.mean
    everything = PeakRange(-math.inf, math.inf)
    top = int(np.argmax(mean))
    strict, usual = (student_quantile(cells.degrees, level) for level in (1 - _LEVEL / x.size, 0.95))
    second, valley, evidence = -1, -1, strict
    for candidate in range(x.size):
        if abs(x[candidate] - x[top]) < SEPARATION or abs(candidate - top) < 2:
            continue
        between = np.arange(min(top, candidate) + 1, max(top, candidate))
        lowest = int(between[np.argmin(mean[between])])
        strength = min(_ratio(cells, top, lowest), _ratio(cells, candidate, lowest))
        if strength > evidence:
            second, valley, evidence = candidate, lowest, strength
    if second < 0:
        return (everything,), ""
    difference, error = float(mean[top] - mean[second]), _error(cells, top, second)
    tolerance = TOLERANCE * cells.span
    below, above = PeakRange(-math.inf, float(x[valley])), PeakRange(float(x[valley]), math.inf)
    higher, lower = (below, above) if top < valley else (above, below)
    if difference - usual * error > tolerance:
        return (higher,), ""
    return (higher, lower), "two_peaks" if difference + usual * error <= tolerance else "unresolved"


def _ratio(cells: CellMeans, first: int, second: int) -> float:
    """Return the difference of two cells in units of its standard error."""
    difference = float(cells.mean[first] - cells.mean[second])
    error = _error(cells, first, second)
    return difference / error if error > 0 else math.copysign(math.inf, difference)


def _error(cells: CellMeans, first: int, second: int) -> float:
    contrast = np.zeros(cells.x.size)
    contrast[first], contrast[second] = 1.0, -1.0
    return math.sqrt(float(contrast @ cells.covariance @ contrast))
