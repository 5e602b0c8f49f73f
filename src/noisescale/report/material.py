"""What the figures of one group are drawn from: its fit, its cells as a table, its runs and their curves."""

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
    """One group of a fitted study, as the figures need it.

    Args:
        group: what was fitted at one setting of the hyperparameters.
        runs: the group's runs of the grid.
        curves: `Study.curves()`.
        split: the examples on which optima are chosen, "test" or "validation".
        units: the unit of each metric, by name.
        metric: the study's own choice, drawn where one metric has to do.
    """

    group: Group
    runs: pd.DataFrame
    curves: pd.DataFrame
    split: str
    units: Mapping[str, str]
    metric: str

    @property
    def series(self) -> Series:
        """The series that summary and recommendation use."""
        return self.group.series[self.group.primary]

    @property
    def widths(self) -> list[float]:
        """The widths of the primary series."""
        return [fit.width for fit in self.series.widths]

    @cached_property
    def all_cells(self) -> pd.DataFrame:
        """The cells of every series, one row each: the fields of `Cell`, `width`, `place` and `primary`.

        The place is the cell's value of the ladder's quantity.

        Of an estimate the column holds the value; the half-width of its interval is in `accuracy_half`, `loss_half`.
        """
        rows = [
            {"width": fit.width, "primary": k == self.group.primary, **_values(cell)}
            for k, series in enumerate(self.group.series)
            for fit in series.widths
            for cell in fit.cells
        ]
        table = pd.DataFrame(rows)
        table["place"] = table[self.quantity.name]
        return table.sort_values(["width", "place"], ignore_index=True)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The cells of the primary series."""
        return self.all_cells[self.all_cells.primary]

    @property
    def quantity(self) -> Quantity:
        """The quantity in which the optima are stated."""
        return QUANTITIES[self.series.quantity]

    @property
    def two_dimensional(self) -> bool:
        """Whether the grid varies both the rate and the batch."""
        return len(self.group.series) > 1

    @property
    def metrics(self) -> list[str]:
        """The metrics that were measured."""
        return [metric for metric in self.units if self.all_cells[metric].notna().any()]

    @property
    def one_metric(self) -> str:
        """The study's metric, or the other one where it was not measured."""
        return self.metric if self.metric in self.metrics else next(iter(self.metrics), self.metric)

    def width_fit(self, width: float) -> WidthFit:
        """One width of the primary series."""
        return next(fit for fit in self.series.widths if fit.width == width)

    def optimum(self, metric: str, width: float) -> MetricOptimum | None:
        """The optimum of a width; None where the metric was not measured or no place was found."""
        found = self.width_fit(width).optima.get(metric)
        return found if found is not None and found.curve.has_value else None

    def place(self, found: MetricOptimum) -> Estimate:
        """The optimum on the figures' axis."""
        return self.series.place(found)

    def height_on_curve(self, metric: str, width: float, place: float) -> float:
        """The metric at a place of the noise axis, between the means of the two cells beside it."""
        cells = self.cells[(self.cells.width == width) & self.cells[metric].notna()]
        return float(np.interp(math.log(place), np.log(cells.place), cells[metric])) if len(cells) else math.nan

    def noise_law(self, metric: str) -> PowerLaw | None:
        """The law of the optimum against width."""
        return self.series.law(metric)

    def largest_batch(self, metric: str, width: float) -> LargestBatch | None:
        """The largest batch of a width; None where there is no number."""
        found = self.width_fit(width).largest_batch.get(metric)
        return found if found is not None and math.isfinite(found.batch_size.value) else None

    @cached_property
    def edges(self) -> dict[float, dict[float, StabilityEdge]]:
        """The stability edges by batch size, then by width."""
        table: dict[float, dict[float, StabilityEdge]] = {}
        for at in self.group.edges:
            table.setdefault(at.batch_size, {})[at.width] = at.edge
        return dict(sorted(table.items()))

    def metric_label(self, metric: str, split: str | None = None) -> str:
        """The metric with its examples and unit, for an axis."""
        unit = "" if METRICS[metric].unit == "fraction" else f" ({self.units[metric]})"
        return f"{split or self.split} {metric.replace('_', ' ')}{unit}"

    @property
    def place_label(self) -> str:
        """The name of the ladder's quantity, for an axis."""
        return self.quantity.axis_label

    def runs_at_optimum(self, width: float) -> pd.DataFrame:
        """The runs of the cell nearest to a width's optimum, or of its best cell where there is none."""
        cells = self.cells[(self.cells.width == width) & self.cells[self.one_metric].notna()]
        if cells.empty:
            return self.runs.iloc[:0]
        found = self.optimum(self.one_metric, width)
        if found is None:
            best = cells.iloc[int(np.argmax(METRICS[self.one_metric].sign * cells[self.one_metric]))]
        else:
            best = cells.iloc[int(np.argmin(np.abs(np.log(cells.place) - math.log(self.place(found).value))))]
        runs = self.runs[(self.runs.width == width) & (self.runs.steps == best.steps)]
        chosen: pd.DataFrame = runs[
            np.isclose(runs.learning_rate, best.learning_rate) & (runs.batch_size == best.batch_size)
        ]
        return chosen


AXES = {
    "batch_size": "batch size B (examples)",
    "learning_rate": "learning rate ε",
    "temperature": "ε / (B(1 − m))",
}


def _values(cell: Cell) -> dict[str, Any]:
    values = {name: metric.value for name, metric in cell.metrics.items()}
    halves = {f"{name}_half": metric.high - metric.value for name, metric in cell.metrics.items()}
    known = {field.name: getattr(cell, field.name) for field in fields(cell) if field.name != "metrics"}
    return {**known, **values, **halves}
