"""Fit the optima and laws of a study from its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.constant_predictor import any_run_trained
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.edges import edge_laws, measured_edge_at_width, measured_edges
from noisescale.laws.fixed_texts import without_width
from noisescale.laws.foreign_runs import set_foreign_aside
from noisescale.laws.ladder import Ladder, build_ladder, ladder_quantity
from noisescale.laws.largest_batch import CONVENTION, LARGEST_BATCH_ADVICE, LargestBatch, largest_batch
from noisescale.laws.metric_laws import IN_LAW, NO_BENEFIT, NO_BENEFIT_REASON, metric_laws
from noisescale.laws.metric_scale import metric_values
from noisescale.laws.noise_units import NoiseUnits
from noisescale.laws.optima import Optimum
from noisescale.laws.optimum import optimum
from noisescale.laws.optimum_at_width import best_cell
from noisescale.laws.rate_prices import rate_price
from noisescale.laws.results import (
    SCHEMA_VERSION,
    EdgeAt,
    Fit,
    Group,
    MetricOptimum,
    Series,
    WidthFit,
)
from noisescale.laws.run_groups import RunGroup, axis_of, complete_budget, run_groups, series_of
from noisescale.laws.settings import Settings, StudyLike
from noisescale.laws.shape_priors import ShapePrior
from noisescale.laws.shared_shapes import shape_priors, with_heights_of
from noisescale.laws.summary import fit_warnings, summary_rows
from noisescale.store import LATE_MARGIN, Study
from noisescale.training import METRICS

Array = NDArray[np.float64]

# An optimum above this share of the stability edge shows where training breaks down, not which noise is best.
STABILITY_SHARE = 0.5


def fit(study: StudyLike, select_on: str | None = None) -> Fit:
    """Fit the optimum of every width and every law of a study.

    Args:
        study: Study, with `.spec` and `.runs()`.
        select_on: Data set that chooses the optima, "test" or "validation". Default: the spec's `fit.select_on`.

    Returns:
        The optima by every metric, laws, stability edges, and one summary row for each width.

    Raises:
        BadInput: No run of the study has finished, or a value of the spec is unknown.
    """
    settings = Settings.read(study.spec, select_on)
    digests = study.data_digests() if isinstance(study, Study) else {}
    runs, sentences = set_foreign_aside(study.runs(), study.spec, digests)
    if runs.empty and sentences:
        raise BadInput("study", "runs that its spec describes", "; ".join(sentences))
    # The matrices are small: with more threads, a fit takes longer and the other cores wait busily.
    with threadpool_limits(1, "blas"):
        groups = tuple(_fit_group(group, settings) for group in run_groups(runs, settings.budget, settings.budgets))
    rows = tuple(row for group in groups for row in summary_rows(group, settings.metric))
    warnings = (*sentences, *fit_warnings(groups, settings.metric, settings.select_on))
    return Fit(
        schema_version=SCHEMA_VERSION,
        name=settings.name,
        metric=settings.metric,
        select_on=settings.select_on,
        replacement=settings.replacement,
        groups=groups,
        summary=rows,
        warnings=without_width(warnings) if groups and all(group.fixed for group in groups) else warnings,
    )


def _fit_group(group: RunGroup, settings: Settings) -> Group:
    edges = measured_edges(group.stability)
    quantity = ladder_quantity(group.sweep, settings.budget)
    axis = axis_of(group.sweep, quantity)
    series = tuple(
        _fit_series(value, runs, axis, quantity, edges, group, settings) for value, runs in series_of(group.sweep, axis)
    )
    return Group(
        parameterization=str(group.hyperparameters["parameterization"]),
        hyperparameters=group.hyperparameters,
        varied=group.varied,
        edges=edges,
        edge_laws=edge_laws(edges),
        series=series,
        primary=min(range(len(series)), key=lambda i: _rank(series[i], settings.metric)),
        rate_price=rate_price(
            group.price, partial(measured_edge_at_width, edges), settings.metric, settings.units[settings.metric]
        ),
    )


def _rank(series: Series, metric: str) -> tuple[int, float, float]:
    """Return a sort key: a conclusive law comes first, then more widths, then a narrower interval of the slope.

    Laws of the rate hold at one batch size each, so that the series with the best cell comes first among them. A series
    without any run that trained comes last.
    """
    law = series.law(metric)
    if law is None or not any_run_trained(series.widths):
        return 2, 0, math.inf
    if series.quantity == "learning_rate":
        cells = [cell for row in series.widths if (cell := best_cell(row, metric)) is not None]
        best = max((METRICS[metric].sign * cell.metrics[metric].value for cell in cells), default=-math.inf)
        return int(law.status != "ok"), -best, 0.0
    width = law.slope.high - law.slope.low
    return int(law.status != "ok"), -len(law.widths) - len(law.censored), width if math.isfinite(width) else math.inf


def _fit_series(
    value: float,
    runs: pd.DataFrame,
    axis: str,
    quantity: str,
    edges: tuple[EdgeAt, ...],
    group: RunGroup,
    settings: Settings,
) -> Series:
    fixed = "learning_rate" if axis == "batch_size" else "batch_size"
    ladders, units_at = {}, {}
    for width, width_runs in runs.groupby("width", sort=True):
        complete_runs = complete_budget(width_runs, settings.budget)
        ladder = build_ladder(complete_runs, quantity, settings.select_on, settings.units)
        momentum = float(group.hyperparameters["momentum"])
        units = NoiseUnits(quantity, ladder.log_ratio, ladder.train_size, momentum, settings.replacement, fixed, value)
        ladders[float(str(width))], units_at[float(str(width))] = ladder, units

    def fit_widths(shapes: Mapping[tuple[float, str], ShapePrior]) -> list[WidthFit]:
        return [
            _fit_width(width, ladder, units_at[width], measured_edge_at_width(edges, width), settings, shapes)
            for width, ladder in ladders.items()
        ]

    # The curves are fitted alone, and then again with what the curves of the other widths say about shapes.
    alone = fit_widths({})
    with_shapes = fit_widths(shape_priors(alone, settings.units))
    widths = [with_heights_of(*fits) for fits in zip(alone, with_shapes, strict=True)]
    laws = {
        metric: metric_laws(metric, tuple(widths), quantity, axis, settings.replacement, units_at)
        for metric in settings.units
        if any(metric in width.optima for width in widths)
    }
    return Series(axis, fixed, value, quantity, settings.budget, tuple(widths), laws)


def _fit_width(
    width: float,
    ladder: Ladder,
    units: NoiseUnits,
    edge: EdgeByBatch | None,
    settings: Settings,
    shapes: Mapping[tuple[float, str], ShapePrior],
) -> WidthFit:
    optima, batches = {}, {}
    for metric in settings.units:
        values = ladder.values.get(f"{settings.select_on}_{metric}")
        if values is None:
            continue
        report = ladder.values.get(f"test_{metric}", values)
        prior = shapes.get((width, metric))
        optima[metric] = _metric_optimum(metric, ladder, values, report, units, edge, settings, prior)
        batches[metric] = _largest_batch(optima[metric], units, edge)
    return WidthFit(
        width=width,
        steps=max((cell.steps for cell in ladder.cells), default=0),
        train_size=ladder.train_size,
        log_ratio=ladder.log_ratio,
        seeds=ladder.seeds,
        cells=ladder.cells,
        optima=optima,
        largest_batch=batches,
        constants=ladder.constants,
    )


def _metric_optimum(
    metric: str,
    ladder: Ladder,
    values: Array,
    report: Array,
    units: NoiseUnits,
    edge: EdgeByBatch | None,
    settings: Settings,
    shapes: ShapePrior | None,
) -> MetricOptimum:
    unit = settings.units[metric]
    usable = np.asarray(np.isfinite(values).all(axis=0) & np.isfinite(report).all(axis=0))
    curve = optimum(
        ladder.x,
        values,
        usable,
        maximize=METRICS[metric].direction == "max",
        report=report,
        failed=ladder.failed,
        constant=ladder.constants[metric],
        shapes=shapes,
    )
    late = not usable.any() or _has_converged(ladder, metric, curve, usable)
    estimates = units.estimates(curve.place.value, curve.place.low, curve.place.high)
    limited = _stability_limited(estimates["learning_rate"].value, estimates["batch_size"].value, edge)
    labels = (curve.label, *(("not_late",) if not late else ()), *(("stability_limited",) if limited else ()))
    reason = ""
    if curve.label not in IN_LAW + NO_BENEFIT:
        reason = curve.advice
    elif not late and units.quantity != "learning_rate" and settings.budget != "epochs":
        # A law of the noise scale is about converged training. A law of the rate holds at its number of steps, as does
        # a law at equal epochs, at which equal noise is equal training time.
        reason = "the cells that decide the optimum have not converged: train longer"
    elif limited:
        reason = "the learning rate at the optimum exceeds half of the stability edge"
    elif curve.label in NO_BENEFIT:
        reason = curve.advice if units.quantity == "learning_rate" else NO_BENEFIT_REASON
    value, low, high = (float(end) for end in metric_values((curve.height.value, *curve.height.interval), metric, unit))
    return MetricOptimum(
        metric=metric,
        curve=curve,
        normalized_noise_scale=estimates["normalized_noise_scale"],
        noise_scale=estimates["noise_scale"],
        learning_rate=estimates["learning_rate"],
        batch_size=estimates["batch_size"],
        temperature=estimates["temperature"],
        height=Estimate(value, low, high, unit, f"test {metric} at the optimum, late-time mean"),
        late=late,
        stability_limited=limited,
        labels=labels,
        in_law=not reason,
        reason=reason,
    )


def _has_converged(ladder: Ladder, metric: str, curve: Optimum, usable: NDArray[np.bool_]) -> bool:
    """Return whether the best cell has converged, or drifts by so little that only its noise hides that it has."""
    best = int(np.argmin(np.where(usable, np.abs(ladder.x - curve.argmax), math.inf)))
    drift = abs(float(ladder.drifts[metric][best]))
    return bool(ladder.late[best]) or 0 < drift <= LATE_MARGIN * curve.span


def _stability_limited(rate: float, batch: float, edge: EdgeByBatch | None) -> bool | None:
    if edge is None or not (math.isfinite(rate) and math.isfinite(batch)):
        return None
    return rate > STABILITY_SHARE * edge.at(max(batch, 1.0)).value


def _largest_batch(optimum: MetricOptimum, units: NoiseUnits, edge: EdgeByBatch | None) -> LargestBatch:
    if edge is None or units.quantity == "learning_rate" or not optimum.curve.has_value or optimum.curve.censored:
        no_batch = no_estimate("examples", CONVENTION)
        return LargestBatch(no_batch, "not_measured", LARGEST_BATCH_ADVICE["not_measured"])
    return largest_batch(
        optimum.noise_scale,
        edge,
        train_size=units.train_size,
        momentum=units.momentum,
        replacement=units.replacement,
    )
