"""Tables of a recommendation, for the terminal and for the page."""

from __future__ import annotations

import math

from rich.table import Table

from noisescale.estimate import Estimate
from noisescale.laws import ExpectedMetric, Recommendation, Rung
from noisescale.report.numbers import LEGEND, NONE, number, percent, with_interval
from noisescale.report.table_data import TableData
from noisescale.training import METRICS


def recommendation_tables(recommendation: Recommendation) -> list[Table]:
    """Make the tables of a recommendation, for a terminal of 140 columns.

    Args:
        recommendation: Recommendation for a width.

    Returns:
        The table of the recommended setting with its source, validity and warnings, and the table of all batch sizes.
    """
    return [data.as_rich() for data in recommendation_table_data(recommendation)]


def recommendation_table_data(recommendation: Recommendation) -> list[TableData]:
    """Return the tables of `recommendation_tables` as text."""
    by_rate = not math.isfinite(recommendation.noise_scale.value)
    normalized = math.isfinite(recommendation.normalized_noise_scale.value)
    noise = recommendation.normalized_noise_scale if normalized else recommendation.noise_scale
    metric = recommendation.metric
    columns = (
        "ε",
        "B",
        "steps",
        *(() if by_rate else ("ḡ" if normalized else "g", "ε/(B(1 − m))")),
        f"expected {_heading(metric)}",
        "expected regret",
        "ε½ at this B",
    )
    row = (
        with_interval(recommendation.learning_rate),
        f"{recommendation.batch_size}",
        f"{recommendation.steps:,}",
        *(() if by_rate else (with_interval(noise), with_interval(recommendation.temperature))),
        expected_metric(recommendation.expected_metric, metric),
        expected_regret(recommendation.expected_regret, metric),
        with_interval(recommendation.stability_edge),
    )
    notes = (
        *_meaning(recommendation),
        f"Source: {'; '.join(recommendation.basis)}.",
        f"Valid for: {'; '.join(recommendation.validity)}.",
        *(f"Warning: {text}." for text in recommendation.warnings),
    )
    base = "" if recommendation.base_width is None else f" (base width {recommendation.base_width})"
    optimizer = "" if recommendation.optimizer_name == "sgd" else f"{recommendation.optimizer_name}, "
    place = "" if recommendation.fixed else f" for width {recommendation.width:g}"
    title = (
        f"Recommendation{place}: {optimizer}{recommendation.parameterization}{base}, "
        f"by {recommendation.select_on} {metric}"
    )
    return [TableData(title, columns, (row,), notes), _ladder(recommendation, by_rate)]


def expected_metric(value: ExpectedMetric, metric: str) -> str:
    """Format the expected metric with the interval of its mean over seeds."""
    estimate = Estimate(value.value, value.low, value.high, value.unit)
    return percent(estimate, "") if METRICS[metric].percent else with_interval(estimate)


def expected_regret(regret: Estimate, metric: str) -> str:
    """Format an expected regret as `value, at most bound`."""
    if not math.isfinite(regret.value):
        return NONE
    factor = 100 if METRICS[metric].percent else 1
    return f"{number(factor * regret.value, 2)} [at most {number(factor * regret.high, 2)}]"


def _heading(metric: str) -> str:
    return metric.replace("_", " ") + (" (%)" if METRICS[metric].percent else "")


def _meaning(recommendation: Recommendation) -> tuple[str, ...]:
    """Explain the expected metric and the expected regret."""
    value, metric = recommendation.expected_metric, METRICS[recommendation.metric]
    if not math.isfinite(value.value):
        return ()
    factor, unit = (100, " %") if metric.percent else (1, "")
    runs = f"{number(factor * value.run_low)} and {number(factor * value.run_high)}{unit}"
    name = recommendation.metric.replace("_", " ")
    return (
        f"The expected {name} is that of test data, a mean over seeds; 95 % of single runs lie between {runs}. "
        f"The expected regret is measured against the best setting of "
        f"{'the model' if recommendation.fixed else 'this width'}, with its 95 % bound.",
    )


def _ladder(recommendation: Recommendation, by_rate: bool) -> TableData:
    # Batch sizes with rates far above the stability edge are left out. Two rows above the edge show where it lies.
    above = [rung.learning_rate.low > rung.stability_edge.high for rung in recommendation.ladder]
    shown = [rung for rung, passed in zip(recommendation.ladder, [False, False, *above], strict=False) if not passed]
    if not any(rung.batch_size == recommendation.batch_size for rung in shown):
        shown = list(recommendation.ladder)
    reasons = list(dict.fromkeys(rung.reason for rung in shown if rung.reason))
    metric = recommendation.metric
    rows = [
        (
            f"{rung.batch_size}" + (" ←" if rung.batch_size == recommendation.batch_size else ""),
            with_interval(rung.learning_rate),
            *(() if by_rate else _noise_entries(rung, recommendation)),
            f"{rung.steps:,}",
            expected_metric(rung.expected_metric, metric),
            expected_regret(rung.expected_regret, metric),
            with_interval(rung.stability_edge),
            f"no ({reasons.index(rung.reason) + 1})" if rung.reason else "yes",
        )
        for rung in shown
    ]
    columns = (
        "B",
        "ε",
        *(() if by_rate else ("ε/(B(1 − m))",)),
        "steps",
        f"expected {_heading(metric)}",
        "expected regret",
        "ε½",
        "supported",
    )
    notes = [
        *(f"Not supported ({position}): {reason}." for position, reason in enumerate(reasons, 1)),
        f"The arrow marks the recommendation. {LEGEND}",
    ]
    if len(shown) < len(recommendation.ladder):
        notes.insert(0, f"Batch sizes above {shown[-1].batch_size} are left out, because their rates lie far above ε½.")
    title = "The best rate at each batch size of the grid" if by_rate else "Other batch sizes"
    return TableData(title, columns, tuple(rows), tuple(notes))


def _noise_entries(rung: Rung, recommendation: Recommendation) -> tuple[str]:
    return (number(rung.learning_rate.value / (rung.batch_size * (1 - recommendation.momentum))),)
