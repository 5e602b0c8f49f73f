"""The result in sentences with numbers, as the page opens with it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from noisescale.estimate import Estimate
from noisescale.laws import Recommendation
from noisescale.report.material import Material
from noisescale.report.numbers import number, percent, with_interval
from noisescale.training import METRICS


def headline(material: Material, recommendation: Recommendation | None) -> list[str]:
    """The law by the study's metric, then the other metric, special widths, the peak and the recommendation."""
    first = material.one_metric
    sentences = [law_sentence(material, metric) for metric in sorted(material.metrics, key=lambda name: name != first)]
    sentences += _special_widths(material, first)
    sentences.append(peak_sentence(material, first))
    if recommendation is not None:
        text = (
            f"For width {recommendation.width:g}, in the parameterization {recommendation.parameterization}: "
            f"learning rate {with_interval(recommendation.learning_rate)} at batch "
        )
        text += f"size {recommendation.batch_size}, {recommendation.steps:,} steps."
        chosen = next((rung for rung in recommendation.ladder if rung.batch_size == recommendation.batch_size), None)
        if chosen is not None and chosen.stable is False:
            text += " It is not safely below the stability edge."
        if chosen is not None and chosen.stable is None:
            text += " No stability edge was measured: whether the rate is stable is not known."
        text += f" From: {recommendation.basis[0]}."
        if recommendation.warnings:
            text += " See the warnings beside it."
        sentences.append(text)
    return [sentence for sentence in sentences if sentence]


def law_sentence(material: Material, metric: str) -> str:
    """How the best noise scale moves with width, with the slope's interval and what it means."""
    law = material.noise_law(metric)
    what = f"By {material.split} {metric}"
    if law is None or law.status != "ok" or not law.fitted:
        if len(material.widths) < 2:
            return f"{what}: one width, so there is no law; its optimum stands in the table."
        return f"{what}, no law was fitted: {law.advice if law is not None else 'the metric was not measured'}."
    slope, quantity = law.slope, material.quantity
    ends = f"95% CI {_end(slope.low)} to {_end(slope.high)}; widths {min(law.widths):g} to {max(law.widths):g}"
    noun = "learning rate" if quantity.name == "learning_rate" else "noise"
    verb = "falls" if slope.high < 0 else "grows" if slope.low > 0 else "scales"
    return f"{what}, the best {quantity.words} {verb} as width^{slope.value:.2f} ({ends}). " + _meaning(slope, noun)


def _meaning(slope: Estimate, noun: str) -> str:
    if slope.low <= 0 <= slope.high:
        return "The interval includes no dependence on width" + (
            " and proportional growth." if slope.high >= 1 else "."
        )
    factor = f"Doubling the width calls for {2**slope.value:.2f} times the {noun}"
    if slope.high < 0:
        return f"{factor}."
    if slope.low <= 1 <= slope.high:
        return f"{factor}, consistent with proportional growth."
    return f"{factor}, {'less' if slope.high < 1 else 'more'} than in proportion."


def _end(value: float) -> str:
    return number(value) if math.isfinite(value) else "unbounded"


def _special_widths(material: Material, metric: str) -> Iterator[str]:
    found = [(width, one) for width in material.widths if (one := material.optimum(metric, width)) is not None]
    lowest = [width for width, one in found if one.curve.label == "censored_low"]
    if lowest:
        yield f"At {_widths(lowest)} the least noise tried is the best: more of it is not shown to help there."
    level = [width for width, one in found if one.curve.label in ("not_identified_low", "flat")]
    if level:
        text = "the least noise tried is not told from the best: noise is not shown to help there"
        yield f"At {_widths(level)} {text}."
    highest = [width for width, one in found if one.curve.label == "censored_high"]
    if highest:
        yield f"At {_widths(highest)} the most noise tried is the best: the optimum lies at or beyond the grid's end."
    limited = [width for width, one in found if one.stability_limited]
    if limited:
        text = "it shows where training breaks, not where noise is best"
        yield f"At {_widths(limited)} the optimum is stability-limited: {text}."
    young = [width for width, one in found if not one.late]
    if young:
        yield f"At {_widths(young)} the cells that decide are not late: train longer before using those optima."
    nothing = [width for width in material.widths if width not in {w for w, _ in found}]
    if nothing:
        yield f"At {_widths(nothing)} no optimum was found."


def _widths(widths: list[float]) -> str:
    return ("width " if len(widths) == 1 else "widths ") + ", ".join(f"{width:g}" for width in widths)


def peak_sentence(material: Material, metric: str) -> str:
    """How the metric at the optimum moves with width; empty where it cannot be said."""
    laws = material.series.laws.get(metric)
    trend = None if laws is None else laws.height
    if trend is None:
        return ""
    ends = [one for w in (trend.widths[0], trend.widths[-1]) if (one := material.optimum(metric, w)) is not None]
    if len(ends) < 2:
        return ""
    show = percent if METRICS[metric].percent else with_interval
    verb = {"rising": "rises", "falling": "falls", "mixed": "moves both ways", "flat": "shows no change"}[
        trend.direction
    ]
    places = f"width {trend.widths[0]:g}: {show(ends[0].height)}; width {trend.widths[-1]:g}: {show(ends[1].height)}"
    return f"Test {metric} at the optimum {verb} with width ({places})."
