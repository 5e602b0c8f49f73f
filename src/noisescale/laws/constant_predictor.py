"""The comparison of cells with the constant predictor: which runs count as it, and whether any cell beats it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noisescale.estimate import CONFIDENCE, student_quantile
from noisescale.laws.ladder import Cell
from noisescale.laws.metric_scale import metric_values
from noisescale.laws.results import Group, WidthFit
from noisescale.training import METRICS


@dataclass(frozen=True)
class Failures:
    """The runs of a setting that diverge or collapse. Each counts as the constant predictor.

    Args:
        share: Share of the runs.
        constant: Metric of the constant predictor, a larger value being better; NaN if it was not recorded.
    """

    share: float
    constant: float


NO_FAILURES = Failures(0.0, math.nan)


def failures_of(cell: Cell, row: WidthFit, metric: str) -> Failures:
    """Return the failures of a cell of a width."""
    return Failures(cell.failures / cell.runs, METRICS[metric].sign * row.constants.get(metric, math.nan))


def failure_warning(cell: Cell, width: float) -> str:
    """Describe the failed runs of a cell."""
    return (
        f"{cell.failures} of {cell.runs} runs ({100 * cell.failures / cell.runs:.0f} %) diverged or collapsed in the "
        f"cell behind this recommendation (width {width:g}, ε = {cell.learning_rate:g}, B = {cell.batch_size:g}); each "
        "counts as the constant predictor"
    )


def any_run_trained(rows: Sequence[WidthFit]) -> bool:
    """Return whether a cell has a run that neither diverged nor collapsed."""
    return any(cell.usable for row in rows for cell in row.cells)


def constant_predictor_warning(group: Group, metric: str) -> str:
    """Say that all runs of a group failed, or that no cell beats the constant predictor; empty otherwise."""
    rows = [row for series in group.series for row in series.widths]
    if not any_run_trained(rows):
        return "every run of the grid diverged or collapsed: no setting can be recommended"
    if _beats_constant(rows, metric):
        return ""
    return f"no cell beats the constant predictor in {metric} by more than the noise of its seeds: nothing was learned"


def _beats_constant(rows: Sequence[WidthFit], metric: str) -> bool:
    """Return whether the runs of a cell are significantly better than the constant predictor.

    The t test has Bonferroni's level. It leaves out failed runs, which are the constant predictor. The error of a mean
    is that of the cell, or the median of all cells if it is larger. A single seed has no error, so any better value
    counts. The result is True if the constant predictor was not recorded.
    """
    advantages, errors, degrees = [], [], 0
    for row in rows:
        for cell in row.cells:
            mean = cell.metrics[metric]
            constant = float(metric_values(row.constants.get(metric, math.nan), metric, mean.unit))
            if not (cell.usable and math.isfinite(mean.value) and math.isfinite(constant)):
                continue
            trained = cell.runs - cell.failures
            advantage = (mean.value - constant) * cell.runs / trained
            squares = np.nan_to_num(mean.standard_error) ** 2 * cell.runs * (cell.runs - 1)
            between = advantage**2 * trained * cell.failures / cell.runs
            deviation = math.sqrt(max(squares - between, 0.0) / max(trained - 1, 1))
            advantages.append(METRICS[metric].sign * advantage)
            errors.append(deviation / math.sqrt(trained))
            degrees += trained - 1
    if not advantages:
        return True
    quantile = student_quantile(degrees, 1 - (1 - CONFIDENCE) / len(advantages)) if degrees else 0.0
    error = np.maximum(errors, np.median(errors))
    return bool(np.any(np.array(advantages) > quantile * error))
