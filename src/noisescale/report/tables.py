"""Tables of a fit, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.table import Table

from noisescale.estimate import Estimate
from noisescale.laws import (
    QUANTITIES,
    Fit,
    Group,
    MetricLaws,
    PowerLaw,
    Quantity,
    Series,
    SummaryRow,
    Trend,
    best_cell,
    summary_rows,
    without_width,
)
from noisescale.report.best_settings import best_settings
from noisescale.report.numbers import LEGEND, NONE, batch_size, number, percent, with_interval
from noisescale.report.table_data import STATUS, TableData
from noisescale.training import ACCURACY, LOSS, METRICS


def fit_tables(fit: Fit) -> list[Table]:
    """Make the tables of optima, laws and stability edges, for a terminal of 140 columns.

    Args:
        fit: Fit of a study.

    Returns:
        For each group: one table of optima per metric, the best trained cell of each width, a table of laws and, if
        measured, a table of stability edges.
    """
    return [data.as_rich() for data in fit_table_data(fit)]


def fit_table_data(fit: Fit) -> list[TableData]:
    """Return the tables of `fit_tables` as text."""
    tables = []
    for group in fit.groups:
        measured = list(group.primary_series.laws)
        for metric in sorted(measured, key=lambda name: name != fit.metric):
            optima = _optima(fit, group, metric)
            tables.append(_of_fixed_model(optima) if group.fixed else optima)
        best = _best_cells(fit, group)
        tables.append(_of_fixed_model(best) if group.fixed else best)
        if not group.fixed:
            tables.append(_laws(group, measured))
        if group.edge_laws:
            tables.append(_edges(group))
    if len(fit.groups) > 1:
        best = best_settings(fit)
        tables.append(_of_fixed_model(best) if fit.fixed else best)
    last = tables[-1]
    tables[-1] = TableData(last.title, last.columns, last.rows, (*last.notes, LEGEND))
    return tables


def _of_fixed_model(table: TableData) -> TableData:
    """Drop the column of widths, which is the first, and the words about the width of the row."""
    notes = [note.replace("Not in the law: width 1: ", "The optimum is not determined: ") for note in table.notes]
    notes = [note.replace("Width 1 has a second peak", "There is a second peak") for note in notes]
    return TableData(table.title, table.columns[1:], tuple(row[1:] for row in table.rows), without_width(notes))


def group_name(group: Group) -> str:
    """Name a group by its parameterization and the hyperparameters that vary in the study."""
    varied = [f"{name.replace('_', ' ')} {value}" for name, value in group.varied.items() if name not in _NAMED_FIRST]
    optimizer = group.hyperparameters.get("optimizer") or "sgd"
    prefix = [] if optimizer == "sgd" and "optimizer" not in group.varied else [str(optimizer)]
    return ", ".join([*prefix, group.parameterization, *varied])


# The name of a group has these hyperparameters first.
_NAMED_FIRST = ("optimizer", "parameterization")


def _optima(fit: Fit, group: Group, metric: str) -> TableData:
    rows = list(summary_rows(group, metric))
    series = group.primary_series
    symbol = "ε" if series.fixed == "learning_rate" else "B"
    quantity = QUANTITIES[series.quantity]
    varied = "B" if symbol == "ε" else "ε"
    height = f"test {metric.replace('_', ' ')}" + (" (%)" if METRICS[metric].percent else "")
    setting = () if quantity.symbol == varied else (f"{varied} at optimum",)
    columns = ("width", f"best {quantity.symbol}", *setting, height, *_STABILITY, STATUS)
    more = len(group.series) - 1
    others = f"; the grid has {more} more value{'s' * (more > 1)} of {symbol}" if more else ""
    title = f"Optimum by {fit.select_on} {metric}: {group_name(group)}, {symbol} = {series.fixed_value:g}{others}"
    entries = tuple(_row(row, metric, quantity, varied) for row in rows)
    notes = _excluded(series.laws[metric])
    notes = (*_second_peaks(series, metric), *notes)
    if metric == LOSS and ACCURACY in series.laws:
        notes = (_CONVERGENCE, *notes)
    return _without_empty(TableData(title, columns, entries, notes))


# Columns of a table of optima that a study without a stability ladder leaves empty.
_STABILITY = ("ε½ (at B)", "B*")
# `late` is judged by accuracy where it was measured, and `_has_converged` of a fit adds the drift of each metric.
_CONVERGENCE = (
    "A cell counts as converged if its accuracy no longer changes, whichever metric the study is about, or if its mean "
    "loss hardly does. In the first case, the test loss may still be changing when training stops."
)


def _without_empty(table: TableData) -> TableData:
    """Leave out the columns of the stability ladder that have no entry."""
    kept = [
        index
        for index, column in enumerate(table.columns)
        if column not in _STABILITY or any(row[index] != NONE for row in table.rows)
    ]
    columns, *rows = (tuple(row[index] for index in kept) for row in (table.columns, *table.rows))
    return TableData(table.title, columns, tuple(rows), table.notes)


def _second_peaks(series: Series, metric: str) -> tuple[str, ...]:
    """Describe the second peak of each curve that has two."""
    symbol, quantity = QUANTITIES[series.quantity].symbol, METRICS[metric]
    notes = []
    for row in series.widths:
        optimum = row.optima.get(metric)
        if optimum is None or len(optimum.curve.peaks) < 2:
            continue
        second = optimum.curve.peaks[1]
        place = number(math.exp(second.place.value))
        value = math.exp(second.height.value) if quantity.logarithmic else second.height.value
        height = f"{100 * value:.1f} %" if quantity.percent else number(value)
        notes.append(f"Width {row.width:g} has a second peak at {symbol} = {place}, of height {height}.")
    return tuple(notes)


def _excluded(laws: MetricLaws) -> tuple[str, ...]:
    """List the widths that the law leaves out, grouped by reason."""
    by_reason: dict[str, list[str]] = {}
    for excluded in laws.excluded:
        by_reason.setdefault(excluded.reason, []).append(f"{excluded.width:g}")
    return tuple(
        f"Not in the law: width{'s' if len(widths) > 1 else ''} {', '.join(widths)}: {reason}."
        for reason, widths in by_reason.items()
    )


def _row(row: SummaryRow, metric: str, quantity: Quantity, varied: str) -> tuple[str, ...]:
    censored = {"censored_low": -1, "censored_high": 1}.get(row.labels[0], 0)
    optimum: Estimate = getattr(row, quantity.name)
    edge = with_interval(
        row.largest_stable_rate, censored={"no_failure": 1, "all_fail": -1}.get(row.stability_label, 0)
    )
    # More noise means a smaller batch, so a lower bound of the noise is an upper bound of the batch size.
    setting = batch_size(row.batch_size, -censored) if varied == "B" else with_interval(row.learning_rate, 3, censored)
    largest = batch_size(row.largest_batch)
    return (
        f"{row.width:g}",
        with_interval(optimum, censored=censored),
        *(() if quantity.symbol == varied else (setting,)),
        percent(row.height, "") if METRICS[metric].percent else with_interval(row.height),
        edge if edge == NONE else f"{edge} ({row.stability_batch_size:g})",
        largest + (" *" if row.largest_batch_label == "extrapolated" else ""),
        ", ".join(label.replace("stability_limited", "stability-limited").replace("_", " ") for label in row.labels),
    )


def _best_cells(fit: Fit, group: Group) -> TableData:
    """Show the best trained cell of each width, as it was measured."""
    metric = METRICS[fit.metric]
    quantity = QUANTITIES[group.primary_series.quantity]
    entries: dict[float, list[str]] = {}
    best: dict[float, float] = {}
    for row in (row for series in group.series for row in series.widths):
        cell = best_cell(row, fit.metric)
        if cell is None:
            continue
        value = cell.metrics[fit.metric]
        if metric.sign * value.value <= best.get(row.width, -math.inf):
            continue
        best[row.width] = metric.sign * value.value
        entries[row.width] = [
            f"{row.width:g}",
            number(cell.learning_rate),
            f"{cell.batch_size:g}",
            *([] if quantity.symbol == "ε" else [number(getattr(cell, quantity.name))]),
            f"{cell.steps:,}",
            percent(value, "") if metric.percent else with_interval(value),
            f"{cell.failures} of {cell.runs}",
        ]
    height = f"{fit.select_on} {fit.metric.replace('_', ' ')}" + (" (%)" if metric.percent else "")
    symbols = () if quantity.symbol == "ε" else (quantity.symbol,)
    note = (
        "A cell is a learning rate with a batch size. The best of many cells is a little lucky: its mean errs upward."
    )
    return TableData(
        f"Best trained cells: {group_name(group)}",
        ("width", "ε", "B", *symbols, "steps", height, "failed runs"),
        tuple(tuple(entries[width]) for width in sorted(entries)),
        (note,),
    )


def _laws(group: Group, metrics: list[str]) -> TableData:
    laws = {metric: group.primary_series.laws[metric] for metric in metrics}
    series = group.primary_series
    symbol = QUANTITIES[series.quantity].symbol
    quantities: dict[str, Callable[[MetricLaws], PowerLaw | None]] = {
        f"best {symbol}": lambda laws: laws.normalized_noise_scale,
        f"best {symbol}, with bounds": lambda laws: laws.with_bounds,
        "best ε/(B(1 − m))": lambda laws: laws.temperature,
        "largest B*": lambda laws: laws.largest_batch,
    }
    if series.quantity == "learning_rate":
        quantities = {f"best ε at B = {series.fixed_value:g}": lambda laws: laws.learning_rate}
    columns = ["exponent of width", *(heading for metric in metrics for heading in (f"by {metric}", "widths"))]
    rows = [
        (name, *(entry for metric in metrics for entry in _law(law_of(laws[metric]))))
        for name, law_of in quantities.items()
    ]
    rows.append(("peak, per doubling", *(entry for metric in metrics for entry in _trend(laws[metric]))))
    return TableData(
        f"Laws against width: {group_name(group)}", tuple(columns), tuple(rows), _law_notes(series, metrics)
    )


def _law(law: PowerLaw | None) -> tuple[str, str]:
    if law is None:
        return NONE, NONE
    bounds = len(law.censored)
    used = _range(law.widths) + (f" + {bounds} bound{'s' if bounds > 1 else ''}" if bounds else "")
    if law.status != "ok":
        return "inconclusive", used
    return with_interval(law.slope), used


def _trend(laws: MetricLaws) -> tuple[str, str]:
    trend: Trend | None = laws.height
    if trend is None:
        return NONE, NONE
    gain = trend.gain_per_doubling
    scale, unit = (100, " points") if gain.unit == "fraction" else (1, "")
    value, low, high = (f"{scale * number:+.3g}" for number in (gain.value, gain.low, gain.high))
    return f"{value}{unit} [{low}, {high}], {trend.direction}", _range(trend.widths)


def _range(widths: tuple[float, ...]) -> str:
    """Format the number of widths and their range: `5: 16–256`."""
    if len(widths) < 2:
        return f"{len(widths)}" + "".join(f": {width:g}" for width in widths)
    return f"{len(widths)}: {min(widths):g}–{max(widths):g}"


def _law_notes(series: Series, metrics: list[str]) -> tuple[str, ...]:
    advice = {
        f"Inconclusive by {metric}: {law.advice}."
        for metric in metrics
        if (law := series.law(metric)) is not None and law.status != "ok"
    }
    return tuple(sorted(advice))


def _edges(group: Group) -> TableData:
    rows = []
    for at_batch in group.edge_laws:
        slope = with_interval(at_batch.law.slope) if at_batch.law.status == "ok" else "inconclusive"
        edges = [edge for edge in group.edges if edge.batch_size == at_batch.batch_size]
        values = ", ".join(f"{edge.width:g}: {number(edge.edge.rate.value)}" for edge in edges)
        rows.append((f"{at_batch.batch_size:g}", slope, values))
    steps = max(edge.steps for edge in group.edges)
    over = "" if group.fixed else " against width"
    title = f"Largest stable rate ε½{over}: {group_name(group)}, within {steps} steps"
    note = (
        "B* is the largest batch size at which a stable rate still reaches the best noise scale. A star after its "
        "value means that it lies outside the measured edges."
    )
    notes = () if group.primary_series.quantity == "learning_rate" else (note,)
    if group.fixed:
        rates = tuple((batch, value.partition(": ")[2]) for batch, _, value in rows)
        return TableData(title, ("B", "ε½"), rates, notes)
    return TableData(title, ("B", "slope", "width: ε½"), tuple(rows), notes)
