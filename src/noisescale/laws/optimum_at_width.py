"""The optimum of a series at a width, trained or not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from noisescale.errors import BadInput
from noisescale.estimate import Estimate
from noisescale.laws.fitting import NO_HELP_REASON
from noisescale.laws.optimum import ADVICE
from noisescale.laws.quantities import QUANTITIES
from noisescale.laws.results import Series


@dataclass(frozen=True)
class OptimumAtWidth:
    """The optimum of a series at one width, in the series' quantity.

    Args:
        place: The optimum with its interval.
        basis: Its source, in words.
        measured_at: The trained width that it was measured at; None for a law's prediction.
        warnings: Reasons for caution.
    """

    place: Estimate
    basis: str
    measured_at: float | None
    warnings: tuple[str, ...] = ()


def optimum_at_width(series: Series, metric: str, width: float) -> OptimumAtWidth:
    """Return the optimum measured at the width itself, else the law's prediction, else that of the nearest width.

    Args:
        series: The ladders over widths.
        metric: The metric of the optimum.
        width: Any width.

    Returns:
        The optimum and its source.

    Raises:
        BadInput: No width has an optimum.
    """
    optima = {row.width: row.optima[metric] for row in series.widths if metric in row.optima}
    trained, warnings = optima.get(float(width)), []
    if trained is not None and trained.in_law and trained.curve.label == "interior":
        return OptimumAtWidth(series.place(trained), f"optimum measured at width {width:g}", width)
    if trained is not None and trained.reason == NO_HELP_REASON:
        warning = f"at width {width:g} {NO_HELP_REASON}: what is given is a bound from above, and less may do as well"
        return OptimumAtWidth(series.place(trained), f"the least noise tried at width {width:g}", width, (warning,))
    if trained is not None and trained.reason:
        warnings.append(f"width {width:g} was trained and left out of the law: {trained.reason}")
    law = series.law(metric)
    if law is not None and law.status == "ok":
        widths = ", ".join(f"{known:g}" for known in law.widths)
        basis = f"law of the {law.quantity} over widths {widths}, with its prediction interval"
        return OptimumAtWidth(law.at(width), basis, None, tuple(warnings))
    known = {place: optimum for place, optimum in optima.items() if optimum.curve.found}
    if not known:
        reasons = "; ".join(f"width {place:g}: {optimum.curve.advice}" for place, optimum in optima.items())
        raise BadInput("recommend", "an optimum at one width at least", reasons or f"no {metric} at any width")
    # An optimum that is not late, or a bound, at a near width tells more than a late optimum far away; an optimum
    # beside the stability edge tells nothing.
    sound = [place for place, optimum in known.items() if not optimum.stability_limited]
    nearest = min(sound or known, key=lambda place: abs(math.log(place / width)))
    quantity = "learning rate" if series.quantity == "learning_rate" else QUANTITIES["noise_scale"].words
    warnings.append(f"the law over widths is inconclusive: the {quantity} is that of width {nearest:g}, unchanged")
    label = known[nearest].curve.label
    if label != "interior":
        warnings.append(f"at width {nearest:g} no optimum is known, only a bound ({ADVICE[label]})")
    labels = ", ".join(known[nearest].labels).replace("_", " ")
    basis = f"the nearest width with an optimum or a bound, {nearest:g} ({labels})"
    return OptimumAtWidth(series.place(known[nearest]), basis, nearest, tuple(warnings))
