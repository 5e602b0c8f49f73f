"""The main results of a study as sentences, for the top of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from noisescale.estimate import Estimate
from noisescale.laws import MetricOptimum, Recommendation, without_width
from noisescale.report.material import Material
from noisescale.report.numbers import number, percent, with_interval
from noisescale.report.recommended_setting import expected_metric
from noisescale.training import METRICS


def headline(material: Material, recommendation: Recommendation | None) -> list[str]:
    """Describe the law of each metric, special widths, the peak and the recommendation.

    Args:
        material: Data of one group of the study.
        recommendation: Recommendation to describe, or None for no description.

    Returns:
        The sentences. The law of the study's main metric comes first.
    """
    main_metric = material.main_metric
    sentences = [
        law_sentence(material, metric) for metric in sorted(material.metrics, key=lambda name: name != main_metric)
    ]
    special = _special_widths(material, main_metric)
    sentences += [_capitalized(text) for text in without_width(special)] if material.group.fixed else special
    sentences.append(peak_sentence(material, main_metric))
    if recommendation is not None:
        place = "the model" if recommendation.fixed else f"width {recommendation.width:g}"
        text = (
            f"For {place} ({recommendation.parameterization} parameterization), the recommendation is a learning rate "
            f"of {with_interval(recommendation.learning_rate)} at batch size {recommendation.batch_size}, for "
            f"{recommendation.steps:,} steps."
        )
        if math.isfinite(recommendation.expected_metric.value):
            text += (
                f" The expected {recommendation.metric} is "
                f"{expected_metric(recommendation.expected_metric, recommendation.metric)}"
                f"{' %' if METRICS[recommendation.metric].percent else ''}."
            )
        chosen = next((rung for rung in recommendation.ladder if rung.batch_size == recommendation.batch_size), None)
        if chosen is not None and chosen.stable is False:
            text += " This rate is not safely below the stability edge."
        if chosen is not None and chosen.stable is None:
            text += " No stability edge was measured, so it is not known whether this rate is stable."
        text += f" Source: {recommendation.basis[0]}."
        if recommendation.warnings:
            text += " See the warnings below."
        sentences.append(text)
    return [sentence for sentence in sentences if sentence]


def law_sentence(material: Material, metric: str) -> str:
    """Describe the law of the optimum over width by its slope, the interval of the slope and its meaning."""
    law = material.noise_law(metric)
    criterion = f"By {material.split} {metric}"
    if law is None or law.status != "ok" or not law.fitted:
        if material.group.fixed:
            return f"{criterion}: the table shows the optimum."
        if len(material.widths) < 2:
            return f"{criterion}: the study has one width, so there is no law; the table shows its optimum."
        return f"{criterion}, no law was fitted: {law.advice if law is not None else 'the metric was not measured'}."
    slope, quantity = law.slope, material.quantity
    ends = f"95% CI {_end(slope.low)} to {_end(slope.high)}; widths {min(law.widths):g} to {max(law.widths):g}"
    noun = "learning rate" if quantity.name == "learning_rate" else "noise"
    verb = "falls" if slope.high < 0 else "grows" if slope.low > 0 else "scales"
    exponent = f"width^{slope.value:.2f} ({ends})"
    return f"{criterion}, the best {quantity.words} {verb} as {exponent}. {_meaning(slope, noun)}"


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _meaning(slope: Estimate, noun: str) -> str:
    if slope.low <= 0 <= slope.high:
        return "The interval includes no dependence on width" + (
            " and proportional growth." if slope.high >= 1 else "."
        )
    factor = f"Doubling the width calls for about {2**slope.value:.2g} times the {noun}"
    if slope.high < 0:
        return f"{factor}."
    if slope.low <= 1 <= slope.high:
        return f"{factor}, consistent with proportional growth."
    return f"{factor}, {'less' if slope.high < 1 else 'more'} than proportional growth."


def _end(value: float) -> str:
    return number(value) if math.isfinite(value) else "unbounded"


def _special_widths(material: Material, metric: str) -> Iterator[str]:
    fitted = {width: material.optimum(metric, width) for width in material.widths}
    optima = {width: optimum for width, optimum in fitted.items() if optimum is not None}
    axis = "learning rate" if material.quantity.name == "learning_rate" else "noise scale"
    name = metric.replace("_", " ")

    def widths_with(condition: Callable[[MetricOptimum], bool | None]) -> str:
        widths = [width for width, optimum in optima.items() if condition(optimum)]
        return f"At {_widths(widths)}" if widths else ""

    if at_widths := widths_with(lambda optimum: optimum.curve.label == "censored_low"):
        yield f"{at_widths} the lowest {axis} on the grid gave the best {name}, so the optimum may lie below the grid."
    if at_widths := widths_with(lambda optimum: optimum.curve.label in ("not_identified_low", "flat")):
        text = f"the lowest {axis} on the grid is statistically as good as the best"
        yield f"{at_widths} {text}, so the optimum may lie below the grid."
    if at_widths := widths_with(lambda optimum: optimum.curve.label == "censored_high"):
        yield f"{at_widths} the highest {axis} on the grid gave the best {name}, so the optimum may lie above the grid."
    if at_widths := widths_with(lambda optimum: optimum.stability_limited):
        text = "it shows where training becomes unstable, not which noise is best"
        yield f"{at_widths} the optimum is stability-limited: {text}."
    if at_widths := widths_with(lambda optimum: not optimum.late):
        yield f"{at_widths} the cells that decide the optimum have not converged: train longer before using it."
    missing = [width for width in material.widths if width not in optima]
    if missing:
        yield f"At {_widths(missing)} there is no optimum."


def _widths(widths: list[float]) -> str:
    return ("width " if len(widths) == 1 else "widths ") + ", ".join(f"{width:g}" for width in widths)


def peak_sentence(material: Material, metric: str) -> str:
    """Describe the trend of the metric at the optimum over width. The text is empty if there is no trend."""
    laws = material.series.laws.get(metric)
    trend = None if laws is None else laws.height
    if trend is None:
        return ""
    narrowest, widest = (material.optimum(metric, width) for width in (trend.widths[0], trend.widths[-1]))
    if narrowest is None or widest is None:
        return ""
    format_value = percent if METRICS[metric].percent else with_interval
    verb = {"rising": "rises", "falling": "falls", "mixed": "changes in both directions", "flat": "shows no change"}[
        trend.direction
    ]
    first, last = (
        f"width {width:g}: {format_value(optimum.height)}"
        for width, optimum in ((trend.widths[0], narrowest), (trend.widths[-1], widest))
    )
    return f"Test {metric} at the optimum {verb} with width ({first}; {last})."
