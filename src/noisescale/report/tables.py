"""The fit and the recommendation as tables, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from noisescale.estimate import Estimate
from noisescale.laws import (
    QUANTITIES,
    Fit,
    Group,
    MetricLaws,
    PowerLaw,
    Quantity,
    Recommendation,
    Rung,
    Series,
    SummaryRow,
    Trend,
    summary_rows,
)
from noisescale.report.numbers import LEGEND, NONE, batch_size, number, percent, with_interval
from noisescale.training import METRICS


@dataclass(frozen=True)
class TableData:
    """A table as text.

    Args:
        title: above it.
        columns: names of the columns.
        rows: one tuple of entries each.
        notes: sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def as_rich(self) -> Table:
        """The table for a terminal; entries never fold, notes do."""
        table = Table(
            title=Text(self.title, style="bold"), caption=Text("\n".join(self.notes)), box=box.SIMPLE_HEAD,
            title_justify="left", caption_justify="left", padding=(0, 1), collapse_padding=True, pad_edge=False,
        )  # fmt: skip
        for k, column in enumerate(self.columns):
            widest = max((len(row[k]) for row in self.rows), default=0)
            whole = widest <= _FOLDS and column != _LABELS
            table.add_column(Text(column), no_wrap=whole, overflow="fold", min_width=None if whole else _LONGEST_WORD)
        for row in self.rows:
            table.add_row(*(Text(entry) for entry in row))
        return table


# Sentences and labels may fold, numbers may not.
_FOLDS = 44
_LABELS, _LONGEST_WORD = "labels", len("stability-limited")


def fit_tables(fit: Fit) -> list[Table]:
    """The optimum of every width, the laws and the stability edge, for a terminal of 140 columns.

    Args:
        fit: what `noisescale.laws.fit` returned.

    Returns:
        For each group one table a metric, one of the laws and one of the stability edges, where there are any.
    """
    return [data.as_rich() for data in fit_table_data(fit)]


def recommendation_tables(recommendation: Recommendation) -> list[Table]:
    """The recommendation and its ladder of (batch size, learning rate).

    Args:
        recommendation: what `noisescale.laws.recommend` returned.

    Returns:
        The default with its intervals, basis, validity and warnings, then the ladder.
    """
    return [data.as_rich() for data in recommendation_table_data(recommendation)]


def fit_table_data(fit: Fit) -> list[TableData]:
    """The tables of `fit_tables`, as text."""
    tables = []
    for group in fit.groups:
        measured = list(group.series[group.primary].laws)
        for metric in sorted(measured, key=lambda name: name != fit.metric):
            tables.append(_optima(fit, group, metric))
        tables.append(_laws(group, measured))
        if group.edge_laws:
            tables.append(_edges(group))
    last = tables[-1]
    tables[-1] = TableData(last.title, last.columns, last.rows, (*last.notes, LEGEND))
    return tables


def group_name(group: Group) -> str:
    """The parameterization and the hyperparameters that tell this group from the study's others."""
    varied = [f"{name.replace('_', ' ')} {value}" for name, value in group.varied.items() if name not in _NAMED]
    optimizer = group.hyperparameters.get("optimizer") or "sgd"
    named = [] if optimizer == "sgd" and "optimizer" not in group.varied else [str(optimizer)]
    return ", ".join([*named, group.parameterization, *varied])


# Named in front of the hyperparameters that vary.
_NAMED = ("optimizer", "parameterization")


def _optima(fit: Fit, group: Group, metric: str) -> TableData:
    rows = list(summary_rows(group, metric))
    series = group.series[group.primary]
    symbol = "ε" if series.fixed == "learning_rate" else "B"
    quantity = QUANTITIES[series.quantity]
    varied = "B" if symbol == "ε" else "ε"
    height = f"test {metric.replace('_', ' ')}" + (" (%)" if METRICS[metric].percent else "")
    setting = () if quantity.symbol == varied else (f"{varied} there",)
    columns = ("width", f"best {quantity.symbol}", *setting, height, "ε½ (at B)", "B*", _LABELS)
    others = f"; {len(group.series) - 1} other {symbol} in the grid" if len(group.series) > 1 else ""
    title = f"Optimum by {fit.select_on} {metric}: {group_name(group)}, {symbol} = {series.fixed_value:g}{others}"
    body = tuple(_row(row, metric, quantity, varied) for row in rows)
    notes = _excluded(series.laws[metric])
    if metric == "loss":
        notes = ("Lateness is judged by accuracy: the loss may still move where training ends.", *notes)
    return TableData(title, columns, body, notes)


def _excluded(laws: MetricLaws) -> tuple[str, ...]:
    """The widths that the law leaves out, those with one reason together."""
    widths: dict[str, list[str]] = {}
    for one in laws.excluded:
        widths.setdefault(one.reason, []).append(f"{one.width:g}")
    return tuple(
        f"Not in the law: width{'s' if len(own) > 1 else ''} {', '.join(own)}: {reason}."
        for reason, own in widths.items()
    )


def _row(row: SummaryRow, metric: str, quantity: Quantity, varied: str) -> tuple[str, ...]:
    censored = {"censored_low": -1, "censored_high": 1}.get(row.labels[0], 0)
    place: Estimate = getattr(row, quantity.name)
    edge = with_interval(
        row.largest_stable_rate, censored={"no_failure": 1, "all_fail": -1}.get(row.stability_label, 0)
    )
    # More noise is a smaller batch.
    setting = batch_size(row.batch_size, -censored) if varied == "B" else with_interval(row.learning_rate, 3, censored)
    star = batch_size(row.largest_batch)
    return (
        f"{row.width:g}",
        with_interval(place, censored=censored),
        *(() if quantity.symbol == varied else (setting,)),
        percent(row.height, "") if METRICS[metric].percent else with_interval(row.height),
        edge if edge == NONE else f"{edge} ({row.stability_batch_size:g})",
        star + (" *" if row.largest_batch_label == "extrapolated" else ""),
        ", ".join(label.replace("stability_limited", "stability-limited").replace("_", " ") for label in row.labels),
    )


def _laws(group: Group, metrics: list[str]) -> TableData:
    laws = {metric: group.series[group.primary].laws[metric] for metric in metrics}
    series = group.series[group.primary]
    quantities: dict[str, Callable[[MetricLaws], PowerLaw | None]] = {
        "best ḡ": lambda laws: laws.normalized_noise_scale,
        "best ḡ, with bounds": lambda laws: laws.with_bounds,
        "best ε/(B(1 − m))": lambda laws: laws.temperature,
        "largest B*": lambda laws: laws.largest_batch,
    }
    if series.quantity == "learning_rate":
        quantities = {f"best ε at B = {series.fixed_value:g}": lambda laws: laws.learning_rate}
    columns = ["exponent of width", *(part for m in metrics for part in (f"by {m}", "widths"))]
    rows = [
        (name, *(entry for metric in metrics for entry in _law(read(laws[metric]))))
        for name, read in quantities.items()
    ]
    rows.append(("peak, per doubling", *(e for m in metrics for e in _trend(laws[m]))))
    return TableData(
        f"Laws against width: {group_name(group)}", tuple(columns), tuple(rows), _law_notes(series, metrics)
    )


def _law(law: PowerLaw | None) -> tuple[str, str]:
    if law is None:
        return NONE, NONE
    used = _range(law.widths) + (f" + {len(law.censored)} censored" if law.censored else "")
    if law.status != "ok":
        return "inconclusive", used
    return with_interval(law.slope), used


def _trend(laws: MetricLaws) -> tuple[str, str]:
    found: Trend | None = laws.height
    if found is None:
        return NONE, NONE
    gain = found.gain_per_doubling
    scale, unit = (100, " points") if gain.unit == "fraction" else (1, "")
    ends = [f"{scale * value:+.3g}" for value in (gain.value, gain.low, gain.high)]
    return f"{ends[0]}{unit} [{ends[1]}, {ends[2]}], {found.direction}", _range(found.widths)


def _range(widths: tuple[float, ...]) -> str:
    """How many widths, and from where to where: `5: 16–256`."""
    if len(widths) < 2:
        return f"{len(widths)}" + "".join(f": {width:g}" for width in widths)
    return f"{len(widths)}: {min(widths):g}–{max(widths):g}"


def _law_notes(series: Series, metrics: list[str]) -> tuple[str, ...]:
    advice = {
        f"inconclusive by {metric}: {law.advice}"
        for metric in metrics
        if (law := series.law(metric)) is not None and law.status != "ok"
    }
    return tuple(sorted(advice))


def _edges(group: Group) -> TableData:
    rows = []
    for one in group.edge_laws:
        slope = with_interval(one.law.slope) if one.law.status == "ok" else "inconclusive"
        own = [at for at in group.edges if at.batch_size == one.batch_size]
        values = ", ".join(f"{at.width:g}: {number(at.edge.rate.value)}" for at in own)
        rows.append((f"{one.batch_size:g}", slope, values))
    steps = max(at.steps for at in group.edges)
    title = f"Largest stable rate ε½ against width: {group_name(group)}, within {steps} steps"
    note = (
        "B*: the largest batch at which the stable rates still reach the best noise scale; * beyond the measured edges."
    )
    return TableData(title, ("B", "slope", "width: ε½"), tuple(rows), (note,))


def recommendation_table_data(found: Recommendation) -> list[TableData]:
    """The tables of `recommendation_tables`, as text."""
    by_rate = not math.isfinite(found.noise_scale.value)
    normalized = math.isfinite(found.normalized_noise_scale.value)
    noise = found.normalized_noise_scale if normalized else found.noise_scale
    columns = ("ε", "B", "steps", *(() if by_rate else ("ḡ" if normalized else "g", "ε/(B(1 − m))")), "ε½ at this B")
    row = (
        with_interval(found.learning_rate),
        f"{found.batch_size}",
        f"{found.steps:,}",
        *(() if by_rate else (with_interval(noise), with_interval(found.temperature))),
        with_interval(found.stability_edge),
    )
    notes = (
        f"From: {'; '.join(found.basis)}.",
        f"Valid for: {'; '.join(found.validity)}.",
        *(f"Warning: {text}." for text in found.warnings),
    )
    base = "" if found.base_width is None else f" (base width {found.base_width})"
    optimizer = "" if found.optimizer_name == "sgd" else f"{found.optimizer_name}, "
    title = (
        f"Recommendation for width {found.width:g}: {optimizer}{found.parameterization}{base}, "
        f"by {found.select_on} {found.metric}"
    )
    return [TableData(title, columns, (row,), notes), _ladder(found, by_rate)]


def _ladder(found: Recommendation, by_rate: bool) -> TableData:
    stable = {True: "yes", False: "no", None: NONE}
    # Far above the edge there is nothing to choose; two rows beyond show where it lies.
    above = [rung.learning_rate.low > rung.stability_edge.high for rung in found.ladder]
    shown = [rung for rung, before in zip(found.ladder, [False, False, *above], strict=False) if not before]
    if not any(rung.batch_size == found.batch_size for rung in shown):
        shown = list(found.ladder)
    rows = [
        (
            f"{rung.batch_size}" + (" ←" if rung.batch_size == found.batch_size else ""),
            with_interval(rung.learning_rate),
            *(() if by_rate else _noise_of(rung, found)),
            f"{rung.steps:,}",
            with_interval(rung.stability_edge),
            stable[rung.stable],
        )
        for rung in shown
    ]
    columns = ("B", "ε", *(() if by_rate else ("ε/(B(1 − m))", "g")), "steps", "ε½", "safely stable")
    note = (
        "safely stable: ε is at most half of ε½, and the upper end of its interval at most ε½. ←: the default. "
        + LEGEND
    )
    if len(shown) < len(found.ladder):
        note = f"Batch sizes above {shown[-1].batch_size} are left out: the table ends shortly beyond ε½. " + note
    title = "The best rate at each batch size of the grid" if by_rate else "The same noise at other batch sizes"
    return TableData(title, columns, tuple(rows), (note,))


def _noise_of(rung: Rung, found: Recommendation) -> tuple[str, str]:
    temperature = rung.learning_rate.value / (rung.batch_size * (1 - found.momentum))
    return number(temperature), number(found.noise_scale.value)
