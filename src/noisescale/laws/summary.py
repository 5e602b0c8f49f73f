"""One row for each width, and what a reader must know before using a number."""

from __future__ import annotations

import math
from collections.abc import Iterator

from noisescale.estimate import Estimate
from noisescale.laws.results import EdgeAt, Group, SummaryRow
from noisescale.laws.stability import CONVENTION
from noisescale.laws.study_shape import Settings

# Below eight seeds the coverage of the optimum was checked, but its interval is wide and often open.
_FEW_SEEDS = 8


def summary_rows(group: Group, metric: str) -> Iterator[SummaryRow]:
    """The rows of one group, by one metric, from its primary series.

    Args:
        group: a fitted group.
        metric: accuracy or loss.

    Yields:
        One row for each width that has the metric.
    """
    for width in group.series[group.primary].widths:
        found = width.optima.get(metric)
        if found is None:
            continue
        edge = _nearest_edge(group.edges, width.width, found.batch_size.value)
        batch = width.largest_batch[metric]
        nothing = Estimate(math.nan, math.nan, math.nan, "learning rate", CONVENTION)
        yield SummaryRow(
            parameterization=group.parameterization,
            varied=group.varied,
            width=width.width,
            learning_rate=found.learning_rate,
            batch_size=found.batch_size,
            normalized_noise_scale=found.normalized_noise_scale,
            noise_scale=found.noise_scale,
            temperature=found.temperature,
            height=found.height,
            largest_stable_rate=edge.edge.rate if edge else nothing,
            stability_batch_size=edge.batch_size if edge else math.nan,
            stability_label=edge.edge.label if edge else "not_measured",
            largest_batch=batch.batch_size,
            largest_batch_label=batch.label,
            labels=found.labels,
            in_law=found.in_law,
            reason=found.reason,
        )


def _nearest_edge(edges: tuple[EdgeAt, ...], width: float, batch: float) -> EdgeAt | None:
    own = [edge for edge in edges if edge.width == width]
    if not own:
        return None
    if not math.isfinite(batch):
        return own[-1]
    return min(own, key=lambda edge: abs(math.log(edge.batch_size / batch)))


def warnings_of(groups: tuple[Group, ...], settings: Settings) -> tuple[str, ...]:
    """What must be known before a number of the fit is used.

    Args:
        groups: of the fit.
        settings: of the fit.

    Returns:
        Sentences, most general first.
    """
    found: dict[str, None] = {}
    if settings.select_on == "test":
        found["the optimum is chosen and reported on the same test set: use validation data for real use"] = None
    for group in groups:
        if not group.edges:
            found["no stability ladder: no optimum can be called stability-limited and no largest batch is known"] = (
                None
            )
        for series in group.series:
            law = series.law(settings.metric)
            if law is None:
                found[f"no {settings.metric} was measured"] = None
                continue
            place = f"{series.fixed} {series.fixed_value:g}, {group.parameterization}"
            if law.status != "ok":
                found[f"{place}: the law is inconclusive: {law.advice}"] = None
            for width in series.widths:
                if len(width.seeds) < _FEW_SEEDS:
                    found[f"fewer than {_FEW_SEEDS} seeds: intervals are wide and often open"] = None
                # At fixed epochs the noise and the training time are one axis: ε·steps = g·epochs.
                if series.axis == "batch_size" and series.budget == "epochs":
                    found["epochs are held fixed while the batch varies: less noise also means more time"] = None
    return tuple(found)
