"""The optimum of a series at any width, trained or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, from_log
from noisescale.laws.constant_predictor import any_run_trained, failure_warning, failures_of
from noisescale.laws.decisions import Outlook, outlook_of_curve, outlook_of_law
from noisescale.laws.ladder import Cell
from noisescale.laws.metric_laws import NO_BENEFIT, NO_BENEFIT_REASON
from noisescale.laws.nearest import nearest_by_factor
from noisescale.laws.pooled_laws import pooled_law
from noisescale.laws.results import Group, MetricOptimum, Series, WidthFit
from noisescale.training import METRICS


@dataclass(frozen=True)
class OptimumAtWidth:
    """The optimum of a series at one width.

    Args:
        value: The series' quantity of least expected regret, such as ḡ, with the interval of the optimum.
        basis: Source of the optimum, in words.
        measured_at: Trained width whose measurement is used; None for a law's prediction.
        warnings: Reasons for caution, one sentence each.
        outlook: What is known of the curve at this width; None without a law or a measured optimum.
        cell: Best trained cell of the nearest width, if no law is known.
    """

    value: Estimate
    basis: str
    measured_at: float | None
    warnings: tuple[str, ...] = ()
    outlook: Outlook | None = None
    cell: Cell | None = None


def optimum_at_width(series: Series, metric: str, width: float, group: Group) -> OptimumAtWidth:
    """Return the optimum measured at this width, else the law's decision, else the best cell of the nearest width.

    Args:
        series: Series, with one ladder of learning rates or batch sizes for each width.
        metric: Metric of the optimum.
        width: Any width.
        group: Group of the series, whose other ladders may belong to the same law.

    Returns:
        The optimum and its source.

    Raises:
        BadInput: The metric was measured in no cell, or all runs failed.
    """
    if not any_run_trained(series.widths):
        setting = f"{series.fixed.replace('_', ' ')} {series.fixed_value:g}"
        required = "a run that neither diverged nor collapsed: sweep other learning rates"
        raise BadInput("recommend", required, f"only failed runs at {setting}")
    optima = {row.width: row.optima[metric] for row in series.widths if metric in row.optima}
    trained, warnings, sign = optima.get(float(width)), [], METRICS[metric].sign
    seed = round(series.fixed_value) if series.fixed == "batch_size" else 0
    rows = {row.width: row for row in series.widths}
    if trained is not None and trained.in_law and trained.curve.label == "interior":
        curve = outlook_of_curve(trained.curve, sign, seed)
        measured = OptimumAtWidth(
            series.value_at(trained), f"optimum measured at width {width:g}", width, outlook=curve
        )
        return _decided(_with_failures(measured, rows[width], trained, series.quantity))
    if (
        trained is not None
        and trained.curve.label in NO_BENEFIT
        and trained.reason in (NO_BENEFIT_REASON, trained.curve.advice)
    ):
        lowest = min(math.log(getattr(cell, series.quantity)) for cell in rows[width].cells)
        curve = outlook_of_curve(trained.curve, sign, seed, lowest=lowest)
        basis = f"curve measured at width {width:g}, down to its lowest cell"
        warning = f"at width {width:g}, {trained.reason}"
        measured = OptimumAtWidth(series.value_at(trained), basis, width, (warning,), curve)
        return _decided(_with_failures(measured, rows[width], trained, series.quantity))
    if trained is not None and trained.reason:
        warnings.append(f"width {width:g} was trained but is not in the law: {trained.reason}")
    law, pooled = series.law(metric), pooled_law(series, group, metric)
    if law is not None and (pooled is not None or law.status == "ok"):
        curves = {trained_width: optimum.curve for trained_width, optimum in optima.items() if optimum.in_law}
        widths, posterior = ", ".join(f"{value:g}" for value in law.widths), law.posterior
        basis, value = f"law of the {law.quantity} over widths {widths}", law.at(width)
        if pooled is not None:
            middle, low, high = (float(end) for end in pooled.predicted({"width": math.log(width)}))
            posterior, value = pooled, from_log(middle, low, high, law.unit, law.convention)
            basis += f", with its {len(group.series)} ladders at each width" if len(group.series) > 1 else ""
        basis += ", with its prediction interval"
        curve = None if posterior is None else outlook_of_law(posterior, curves, width, sign, seed)
        predicted = OptimumAtWidth(value, basis, None, tuple(warnings), curve)
        nearest = nearest_by_factor(curves, width)
        return _decided(_with_failures(predicted, rows[nearest], optima[nearest], series.quantity))
    cells = {row.width: cell for row in series.widths if (cell := best_cell(row, metric)) is not None}
    if not cells:
        raise BadInput("recommend", f"a cell whose {metric} was measured", "none at any width")
    nearest = nearest_by_factor(cells, width)
    cell = cells[nearest]
    setting = f"ε = {cell.learning_rate:g}, B = {cell.batch_size:g}, {metric} {cell.metrics[metric].value:.4g}"
    warnings.append("no law over widths: the best trained cell of the nearest width is taken")
    if nearest != width:
        warnings.append(_rules(series, cell, nearest, width))
    basis = f"the best trained cell at width {nearest:g}, the nearest: {setting}"
    if cell.failures:
        warnings.append(failure_warning(cell, nearest))
    value = Estimate(getattr(cell, series.quantity), math.nan, math.nan, "1", "of the best trained cell")
    return OptimumAtWidth(value, basis, nearest, tuple(warnings), cell=cell)


def _decided(optimum: OptimumAtWidth) -> OptimumAtWidth:
    """Replace the middle of the optimum's interval by the decision of least expected regret."""
    if optimum.outlook is None:
        return optimum
    value = replace(optimum.value, value=math.exp(optimum.outlook.decision()))
    return replace(optimum, value=value, basis=f"{optimum.basis}; the value is that of least expected regret")


def _with_failures(optimum: OptimumAtWidth, row: WidthFit, at: MetricOptimum, quantity: str) -> OptimumAtWidth:
    """Add the failures of the cell that is nearest to the optimum of a trained width."""
    place = at.curve.place.value
    cells = [cell for cell in row.cells if cell.usable]
    cell = min(cells, key=lambda cell: abs(math.log(getattr(cell, quantity)) - place))
    if not cell.failures:
        return optimum
    warnings = (*optimum.warnings, failure_warning(cell, row.width))
    outlook = optimum.outlook
    if outlook is not None:
        outlook = replace(outlook, failures=failures_of(cell, row, at.metric))
    return replace(optimum, warnings=warnings, outlook=outlook)


def best_cell(row: WidthFit, metric: str) -> Cell | None:
    """Return the cell with the best mean at a width; None without a measured cell in which a run trained."""
    measured = [cell for cell in row.cells if cell.usable and math.isfinite(cell.metrics[metric].value)]
    sign = METRICS[metric].sign
    return max(measured, key=lambda cell: sign * cell.metrics[metric].value, default=None)


def _rules(series: Series, cell: Cell, trained_width: float, width: float) -> str:
    """Say what two rules of thumb would give at a width, from the best cell of another width."""
    factor = width / trained_width
    same = f"the same rate and batch size, ε = {cell.learning_rate:g} and B = {cell.batch_size:g}"
    if series.quantity == "learning_rate":
        return f"at width {width:g}, the rule of a constant rate gives {same}; no interval is known"
    if series.axis == "batch_size":
        scaled = f"B = {max(cell.batch_size / factor, 1):.3g} at ε = {cell.learning_rate:g}"
    else:
        scaled = f"ε = {cell.learning_rate * factor:.3g} at B = {cell.batch_size:g}"
    return (
        f"at width {width:g}, the rule of constant noise gives {same}, and the rule of noise in proportion to width "
        f"gives about {scaled}; no interval is known"
    )
