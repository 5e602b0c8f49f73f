"""The figures of a page in their order, with titles and with captions that explain the computation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from noisescale.laws import Recommendation
from noisescale.report.figures.collapse import collapse
from noisescale.report.figures.heat_map import heat_map
from noisescale.report.figures.learning_curves import learning_curves
from noisescale.report.figures.metric_by_noise import metric_by_noise
from noisescale.report.figures.noise_law import noise_law
from noisescale.report.figures.peak import peak
from noisescale.report.figures.recommended import recommended
from noisescale.report.figures.stability import stability
from noisescale.report.headline import law_sentence, peak_sentence
from noisescale.report.material import Material
from noisescale.report.numbers import number
from noisescale.store import LATE_MARGIN
from noisescale.training import METRICS


@dataclass(frozen=True)
class Entry:
    """A figure of the page.

    Args:
        name: Stem of the figure's file names.
        title: Title above the figure.
        caption: Description of the figure and its computation.
        draw: Function that draws the figure.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def catalogue(material: Material, recommendation: Recommendation | None) -> Iterator[Entry]:
    """Yield the figures of one group in this order: curves, law, peak, edge, recommendation, grid, learning curves."""
    noise = material.quantity.words
    metrics = " and ".join(material.metrics)
    yield Entry(
        "metric-by-noise", f"{metrics.capitalize()} against the {noise}", _by_noise(material),
        lambda: metric_by_noise(material),
    )  # fmt: skip
    if not material.group.fixed:
        yield Entry("noise-law", f"The best {noise} against width", _noise_law(material), lambda: noise_law(material))
        yield Entry("peak", "The peak against width", _peak(material), lambda: peak(material))
        yield Entry("stability", "Stability edge and largest batch", _stability(material), lambda: stability(material))
    if recommendation is not None:
        yield Entry(
            "recommendation", f"The recommendation{_at_width(recommendation)}", _recommended(recommendation),
            lambda: recommended(material, recommendation),
        )  # fmt: skip
    yield Entry("heat-map", "The grid", _heat_map(material), lambda: heat_map(material))
    if material.has_noise:
        yield Entry("collapse", "Collapse in ε/B", _collapse(material), lambda: collapse(material))
    yield Entry(
        "learning-curves", "Learning curves at the optimum", _learning(material), lambda: learning_curves(material)
    )


def _at_width(recommendation: Recommendation) -> str:
    return "" if recommendation.fixed else f" for width {recommendation.width:g}"


def _setting(material: Material) -> str:
    series = material.series
    fixed = "ε" if series.fixed == "learning_rate" else "B"
    varied = "batch size" if series.axis == "batch_size" else "learning rate"
    return f"{fixed} = {series.fixed_value:g} and {series.budget} are fixed, and the {varied} varies"


def _each(material: Material) -> str:
    return "" if material.group.fixed else " of each width"


def _by_noise(material: Material) -> str:
    text = "Points show the mean over seeds of the average over the last evaluations, with its 95 % interval. "
    text += f"Here {_setting(material)}. "
    text += (
        f"Diamonds show the optimum{_each(material)} with its 95 % interval, from a posterior over many shapes of the "
    )
    text += "curve. An arrow marks an end that the data do not bound. "
    if not material.cells.late.all():
        text += "Open markers show cells that are not late: it is not shown that they drift by at most "
        text += f"{100 * LATE_MARGIN:g} % of the span of the metric. "
    if int(material.cells.failures.sum()):
        text += "The strip below counts diverged and collapsed runs. They count as the constant predictor. "
    return text + "Cells far below the peaks lie outside the frame. The heat map shows all cells."


def _noise_law(material: Material) -> str:
    sentences = " ".join(law_sentence(material, metric) for metric in material.metrics)
    return f"{sentences} The band is the 95 % interval of the line. The prediction interval of a new width is wider."


def _peak(material: Material) -> str:
    text = "The height of each curve at its optimum, from a posterior over many shapes of the curve. Bars show 95 % "
    text += "intervals, which hold the noise of the seeds and the uncertainty about the shape. "
    return text + " ".join(peak_sentence(material, metric) for metric in material.metrics)


def _stability(material: Material) -> str:
    if not material.edges:
        return "Without a stability ladder, neither stability-limited optima nor the largest batch size are known."
    steps = max(measured.steps for measured in material.group.edges)
    text = (
        "The left panel shows, for each measured batch size, the rate at which the median seed diverges or collapses "
    )
    text += (
        f"within {steps} steps. The rates come from separate stability runs and have 95 % intervals. The right panel "
    )
    text += "shows the largest batch size at which a stable rate still reaches the best noise scale. It solves an "
    return text + "equation in B, because ε½ depends on B."


def _recommended(recommendation: Recommendation) -> str:
    text = "The dashed line shows the rate of each batch size, with the 95 % interval of the best one. The star shows "
    text += f"the recommendation, B = {recommendation.batch_size} and "
    text += f"ε = {number(recommendation.learning_rate.value)}. "
    if math.isfinite(recommendation.expected_metric.value):
        text += f"Its expected {recommendation.metric} is the best of the batch sizes that the study supports; of "
        text += "those that are as good, it takes the fewest steps. "
    if not any(rung.stable for rung in recommendation.ladder):
        text += "No batch size is known to be safely stable, and the warnings explain the choice. "
    return f"{text}Source: {'; '.join(recommendation.basis)}."


def _heat_map(material: Material) -> str:
    text = f"Colors show the mean {material.split} {material.main_metric} of every cell"
    text += " (%)" if METRICS[material.main_metric].percent else ""
    text += f". A frame marks the best cell{_each(material)}. Hatching marks cells that are not late. A cross marks "
    text += "cells in which some runs diverged or collapsed."
    if material.two_dimensional and material.has_noise:
        text += " If only ε/B matters, the color is constant along lines of equal ε/B."
    return text


def _collapse(material: Material) -> str:
    if material.two_dimensional:
        panels = "" if material.group.fixed else "There is one panel per width. "
        return f"{panels}If only ε/B matters, the curves of different learning rates coincide."
    fixed = material.series.fixed.replace("_", " ")
    text = f"The grid has a single {fixed}, so rates cannot be compared at equal ε/B. The figure shows the "
    text += "curve " if material.group.fixed else "widths "
    law = material.noise_law(material.main_metric)
    if law is None or law.status != "ok":
        return text + ("as measured." if material.group.fixed else "as measured, each relative to its optimum.")
    text += "as measured, and shifted by the fitted power of width. The shift aligns their optima if the law holds, so "
    return text + "the remaining differences are differences in shape. Bars show 95 % intervals over seeds."


def _learning(material: Material) -> str:
    metric = material.main_metric
    optimum = "the optimum" if material.group.fixed else "each width's optimum"
    text = f"Lines show the mean over seeds at the cell nearest to {optimum} by {metric}. The band is one "
    text += "standard deviation. "
    return text + "The optimum uses the average over the last evaluations, which are the last part of these curves."
