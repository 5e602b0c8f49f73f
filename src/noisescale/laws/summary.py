"""The summary table of a fit, with one row for each width, and the warnings of a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from noisescale.estimate import no_estimate
from noisescale.laws.constant_predictor import constant_predictor_warning
from noisescale.laws.nearest import nearest_by_factor
from noisescale.laws.results import EdgeAt, Group, SummaryRow
from noisescale.laws.stability import CONVENTION

# With fewer than eight seeds the interval of the optimum still covers the truth, but it is wide and often unbounded.
_FEW_SEEDS = 8
_FULL_BATCH = "is the whole training set, whose gradient has no noise"


def summary_rows(group: Group, metric: str) -> Iterator[SummaryRow]:
    """Yield the summary rows of a group by one metric, from its primary series.

    Args:
        group: Fitted group.
        metric: Name of the metric.

    Yields:
        One row for each width with this metric.
    """
    for width in group.primary_series.widths:
        optimum = width.optima.get(metric)
        if optimum is None:
            continue
        edge = _nearest_edge(group.edges, width.width, optimum.batch_size.value)
        batch = width.largest_batch[metric]
        no_edge = no_estimate("learning rate", CONVENTION)
        yield SummaryRow(
            parameterization=group.parameterization,
            varied=group.varied,
            width=width.width,
            learning_rate=optimum.learning_rate,
            batch_size=optimum.batch_size,
            normalized_noise_scale=optimum.normalized_noise_scale,
            noise_scale=optimum.noise_scale,
            temperature=optimum.temperature,
            height=optimum.height,
            largest_stable_rate=edge.edge.rate if edge else no_edge,
            stability_batch_size=edge.batch_size if edge else math.nan,
            stability_label=edge.edge.label if edge else "not_measured",
            largest_batch=batch.batch_size,
            largest_batch_label=batch.label,
            labels=optimum.labels,
            in_law=optimum.in_law,
            reason=optimum.reason,
        )


def _nearest_edge(edges: tuple[EdgeAt, ...], width: float, batch: float) -> EdgeAt | None:
    at_width = {edge.batch_size: edge for edge in edges if edge.width == width}
    if not at_width:
        return None
    return at_width[nearest_by_factor(at_width, batch) if math.isfinite(batch) else max(at_width)]


def fit_warnings(groups: Sequence[Group], metric: str, select_on: str) -> tuple[str, ...]:
    """Return the reasons for caution before using the numbers of a fit.

    Args:
        groups: Groups of the fit.
        metric: Metric that summary and recommendation use.
        select_on: Data set that chose the optima, "test" or "validation".

    Returns:
        Sentences, the most general first.
    """
    warnings: list[str] = []
    if select_on == "test":
        warnings.append("the optimum is chosen and reported on the same test set: use validation data for real use")
    for group in groups:
        name = _name(group)
        if warning := constant_predictor_warning(group, metric):
            warnings.append(f"{name}: {warning}" if group.varied else warning)
        if not group.edges:
            warnings.append(
                "no stability ladder: stability-limited optima cannot be detected, and the largest batch is not known"
            )
        if all(cell.noise_scale == 0 for series in group.series for row in series.widths for cell in row.cells):
            warnings.append(f"every batch {_FULL_BATCH}: there is no law of the noise, and only learning rates differ")
        for series in group.series:
            law = series.law(metric)
            if not any(row.cells for row in series.widths):
                left_out = "it has no place in a law of the noise"
                warnings.append(f"batch size {series.fixed_value:g} {_FULL_BATCH}: {left_out}")
                continue
            if law is None:
                warnings.append(f"no {metric} was measured")
                continue
            setting = f"{series.fixed.replace('_', ' ')} {series.fixed_value:g}, {name}"
            if law.status != "ok":
                warnings.append(f"{setting}: the law is inconclusive: {law.advice}")
            elif law.bends:
                ends = [law.exponent_at(width) for width in (min(law.widths), max(law.widths))]
                low, high = (f"{end.value:.2g} [{end.low:.2g}, {end.high:.2g}]" for end in ends)
                warnings.append(
                    f"{setting}: the law bends: its exponent is {low} at width {min(law.widths):g} and {high} at width "
                    f"{max(law.widths):g}; beyond the trained widths it may change further"
                )
            for width in series.widths:
                if len(width.seeds) < _FEW_SEEDS:
                    warnings.append(f"fewer than {_FEW_SEEDS} seeds: intervals are wide and often unbounded")
                # At fixed epochs, noise scale g and training time ε·steps change together: ε·steps = g·epochs.
                if series.axis == "batch_size" and series.budget == "epochs":
                    warnings.append(
                        "the batch size varies at a fixed number of epochs, so less noise also means more training time"
                    )
    return tuple(dict.fromkeys(warnings))


def _name(group: Group) -> str:
    """Name a group by its parameterization and by what else differs between the groups of the study."""
    others = {key: value for key, value in group.varied.items() if key != "parameterization" and value is not None}
    return ", ".join([group.parameterization, *(f"{key.replace('_', ' ')} {value}" for key, value in others.items())])
