"""The measured time of training, carried to settings that were not trained."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from noisescale.laws.results import Series


class StepTimes:
    """Seconds per step of a group's runs, as a power of the batch size and of the width.

    log(seconds/steps) = a + b·log B + c·log width

    Args:
        series: Series of the group.
    """

    def __init__(self, series: Iterable[Series]) -> None:
        rows = [
            (1.0, math.log(cell.batch_size), math.log(row.width), math.log(cell.seconds / cell.steps))
            for part in series
            for row in part.widths
            for cell in row.cells
            if cell.seconds > 0 and not cell.failures
        ]
        table = np.array(rows).reshape(-1, 4)
        # If only one batch size or width was trained, the least-squares solution of least norm has the exponent's part
        # in the constant.
        self._center = table[:, :3].mean(axis=0) * [0, 1, 1] if rows else np.zeros(3)
        self._coefficients = (
            np.linalg.lstsq(table[:, :3] - self._center, table[:, 3])[0] if rows else np.full(3, np.nan)
        )

    def seconds(self, batch_size: float, width: float, steps: float) -> float:
        """Return the expected seconds of a run; NaN if no time was measured."""
        row = np.array([1.0, math.log(batch_size), math.log(width)]) - self._center
        return float(math.exp(row @ self._coefficients) * steps) if np.isfinite(self._coefficients).all() else math.nan
