"""The data behind the figures of one group: its fit, its table of cells, its runs and their curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from noisescale.estimate import Estimate
from noisescale.laws import (
    QUANTITIES,
    Cell,
    Group,
    LargestBatch,
    MetricOptimum,
    PowerLaw,
    Quantity,
    Series,
    StabilityEdge,
    WidthFit,
)
from noisescale.training import METRICS


@dataclass(frozen=True)
class Material:
    """The data of one group of a fitted study.

    Args:
        group: Fit of the group.
        runs: Table of the group's grid runs, one row per run.
        curves: Learning curves, as `Study.curves()` returns them.
        split: Data set on which the optima are chosen, "test" or "validation".
        units: Unit of each metric, by name.
        metric: Metric of the study.
    """

    group: Group
    runs: pd.DataFrame
    curves: pd.DataFrame
    split: str
    units: Mapping[str, str]
    metric: str

    @property
    def series(self) -> Series:
        """The primary series, which summary and recommendation use."""
        return self.group.series[self.group.primary]

    @property
    def widths(self) -> list[float]:
        """Widths of the primary series, in increasing order."""
        return [fit.width for fit in self.series.widths]

    @cached_property
    def all_cells(self) -> pd.DataFrame:
        """Table of the cells of every series, one row per cell: the fields of `Cell`, `width`, `place` and `primary`.

        `place` is the position of the cell on the horizontal axis, a value of `quantity`. The column of a metric has
        its mean. The column with the suffix `_half` has the half-width of the interval of this mean.
        """
        rows = [
            {"width": fit.width, "primary": index == self.group.primary, **_values(cell)}
            for index, series in enumerate(self.group.series)
            for fit in series.widths
            for cell in fit.cells
        ]
        table = pd.DataFrame(rows)
        table["place"] = table[self.quantity.name]
        return table.sort_values(["width", "place"], ignore_index=True)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Table of the cells of the primary series, one row per cell."""
        return self.all_cells[self.all_cells.primary]

    @property
    def quantity(self) -> Quantity:
        """Quantity in which ladders and optima are expressed."""
        return QUANTITIES[self.series.quantity]

    @property
    def two_dimensional(self) -> bool:
        """True if the grid varies both the learning rate and the batch size."""
        return len(self.group.series) > 1

    @property
    def has_noise(self) -> bool:
        """True if a cell has a noise scale above 0: the optimizer has a noise law, and not every batch has B = N."""
        return bool((self.all_cells.noise_scale > 0).any())

    @property
    def metrics(self) -> list[str]:
        """Names of the measured metrics."""
        return [metric for metric in self.units if self.all_cells[metric].notna().any()]

    @property
    def main_metric(self) -> str:
        """Metric of the study. If it was not measured, the first metric that was measured."""
        return self.metric if self.metric in self.metrics else next(iter(self.metrics), self.metric)

    def width_fit(self, width: float) -> WidthFit:
        """Return the fit of a width in the primary series."""
        return next(fit for fit in self.series.widths if fit.width == width)

    def optimum(self, metric: str, width: float) -> MetricOptimum | None:
        """Return the optimum of a width, or None if the metric was not measured or the fit gave no position."""
        optimum = self.width_fit(width).optima.get(metric)
        return optimum if optimum is not None and optimum.curve.has_value else None

    def value_at(self, optimum: MetricOptimum) -> Estimate:
        """Return the position of an optimum on the axis of the figures."""
        return self.series.value_at(optimum)

    def height_on_curve(self, metric: str, width: float, place: float) -> float:
        """Return the metric at a position on the noise axis, interpolated between the neighboring cells."""
        cells = self.cells[(self.cells.width == width) & self.cells[metric].notna()]
        return float(np.interp(math.log(place), np.log(cells.place), cells[metric])) if len(cells) else math.nan

    def noise_law(self, metric: str) -> PowerLaw | None:
        """Return the law of the optimum over width, or None if the metric was not measured."""
        return self.series.law(metric)

    def largest_batch(self, metric: str, width: float) -> LargestBatch | None:
        """Return the largest batch size of a width, or None if it has no value."""
        batch = self.width_fit(width).largest_batch.get(metric)
        return batch if batch is not None and math.isfinite(batch.batch_size.value) else None

    @cached_property
    def edges(self) -> dict[float, dict[float, StabilityEdge]]:
        """Stability edges by batch size, then by width."""
        table: dict[float, dict[float, StabilityEdge]] = {}
        for measured in self.group.edges:
            table.setdefault(measured.batch_size, {})[measured.width] = measured.edge
        return dict(sorted(table.items()))

    def metric_label(self, metric: str, split: str | None = None) -> str:
        """Return the axis label of a metric, with its data set and unit."""
        unit = "" if METRICS[metric].unit == "fraction" else f" ({self.units[metric]})"
        return f"{split or self.split} {metric.replace('_', ' ')}{unit}"

    @property
    def place_label(self) -> str:
        """Axis label of the ladder's quantity."""
        return self.quantity.axis_label

    def runs_at_optimum(self, width: float) -> pd.DataFrame:
        """Return the runs of the cell nearest to a width's optimum, or of its best cell if it has no optimum."""
        cells = self.cells[(self.cells.width == width) & self.cells[self.main_metric].notna()]
        if cells.empty:
            return self.runs.iloc[:0]
        optimum = self.optimum(self.main_metric, width)
        if optimum is None:
            cell = cells.iloc[int(np.argmax(METRICS[self.main_metric].sign * cells[self.main_metric]))]
        else:
            cell = cells.iloc[int(np.argmin(np.abs(np.log(cells.place) - math.log(self.value_at(optimum).value))))]
        runs = self.runs[(self.runs.width == width) & (self.runs.steps == cell.steps)]
        runs_of_cell: pd.DataFrame = runs[
            np.isclose(runs.learning_rate, cell.learning_rate) & (runs.batch_size == cell.batch_size)
        ]
        return runs_of_cell


AXES = {
    "batch_size": "batch size B (examples)",
    "learning_rate": "learning rate ε",
    "temperature": "ε / (B(1 − m))",
}


def _values(cell: Cell) -> dict[str, Any]:
    values = {name: metric.value for name, metric in cell.metrics.items()}
    half_widths = {f"{name}_half": metric.high - metric.value for name, metric in cell.metrics.items()}
    scalars = {field.name: getattr(cell, field.name) for field in fields(cell) if field.name != "metrics"}
    return {**scalars, **values, **half_widths}
