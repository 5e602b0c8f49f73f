"""The optimum of a series at any width, trained or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from noisescale.errors import BadInput
from noisescale.estimate import Estimate
from noisescale.laws.decisions import Decision, outlook
from noisescale.laws.fitting import NO_BENEFIT_REASON
from noisescale.laws.optimum import OPTIMUM_ADVICE
from noisescale.laws.power_laws import PowerLaw
from noisescale.laws.quantities import QUANTITIES
from noisescale.laws.results import MetricOptimum, Series
from noisescale.laws.shape_priors import ShapePrior


@dataclass(frozen=True)
class OptimumAtWidth:
    """The optimum of a series at one width.

    Args:
        value: The series' quantity at the optimum, such as ḡ, with its interval.
        basis: Source of the optimum, in words.
        measured_at: Trained width whose measurement is used; None for a law's prediction.
        warnings: Reasons for caution, one sentence each.
        decision: Decision of least expected loss that `value` follows; None if it follows a measurement.
    """

    value: Estimate
    basis: str
    measured_at: float | None
    warnings: tuple[str, ...] = ()
    decision: Decision | None = None


def optimum_at_width(series: Series, metric: str, width: float) -> OptimumAtWidth:
    """Return the optimum measured at this width, else the law's prediction, else the optimum of the nearest width.

    Args:
        series: Series, with one ladder of learning rates or batch sizes for each width.
        metric: Metric of the optimum.
        width: Any width.

    Returns:
        The optimum and its source.

    Raises:
        BadInput: No trained width has an optimum.
    """
    optima = {row.width: row.optima[metric] for row in series.widths if metric in row.optima}
    trained, warnings = optima.get(float(width)), []
    if trained is not None and trained.in_law and trained.curve.label == "interior":
        return OptimumAtWidth(series.value_at(trained), f"optimum measured at width {width:g}", width)
    if trained is not None and trained.reason == NO_BENEFIT_REASON:
        warning = f"at width {width:g} {NO_BENEFIT_REASON}: the values given are an upper bound"
        basis = f"lowest noise scale on the grid at width {width:g}"
        return OptimumAtWidth(series.value_at(trained), basis, width, (warning,))
    if trained is not None and trained.reason:
        warnings.append(f"width {width:g} was trained but is not in the law: {trained.reason}")
    law = series.law(metric)
    if law is not None and law.status == "ok":
        widths = ", ".join(f"{value:g}" for value in law.widths)
        basis = f"law of the {law.quantity} over widths {widths}, with its prediction interval"
        prediction, decision = law.at(width), _decision(law, optima, width)
        if decision is not None:
            basis += "; the value is that of least expected loss"
            prediction = replace(prediction, value=math.exp(decision.place))
        return OptimumAtWidth(prediction, basis, None, tuple(warnings), decision)
    located = {trained_width: optimum for trained_width, optimum in optima.items() if optimum.curve.has_value}
    if not located:
        reasons = "; ".join(
            f"width {trained_width:g}: {optimum.curve.advice}" for trained_width, optimum in optima.items()
        )
        raise BadInput("recommend", "an optimum at one width or more", reasons or f"no {metric} at any width")
    # A bound or an unconverged optimum at a near width is more informative than a converged optimum far away. An
    # optimum above half of the stability edge is not informative.
    informative = [trained_width for trained_width, optimum in located.items() if not optimum.stability_limited]
    nearest = min(informative or located, key=lambda trained_width: abs(math.log(trained_width / width)))
    quantity = "learning rate" if series.quantity == "learning_rate" else QUANTITIES["noise_scale"].words
    warnings.append(f"the law over widths is inconclusive: the {quantity} of width {nearest:g} is used unchanged")
    label = located[nearest].curve.label
    if label != "interior":
        warnings.append(f"at width {nearest:g} the optimum is known only as a bound ({OPTIMUM_ADVICE[label]})")
    labels = ", ".join(located[nearest].labels).replace("_", " ")
    basis = f"nearest width with an optimum or a bound: {nearest:g} ({labels})"
    return OptimumAtWidth(series.value_at(located[nearest]), basis, nearest, tuple(warnings))


def _decision(law: PowerLaw, optima: dict[float, MetricOptimum], width: float) -> Decision | None:
    """Return the decision of least expected loss; None without a curve whose shape is known."""
    shapes = tuple(
        optimum.curve.shape
        for optimum in optima.values()
        if optimum.curve.shape is not None and optimum.curve.label == "interior"
    )
    if law.posterior is None or not shapes:
        return None
    return outlook(law.posterior, ShapePrior(shapes), optima[max(optima)].curve.span, width).decide()
