"""The figures of a page, in order, each with its title and a caption that explains the computation."""

from __future__ import annotations

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
from noisescale.training import METRICS


@dataclass(frozen=True)
class Entry:
    """A figure of the page.

    Args:
        name: Stem of its file names.
        title: Title above the figure.
        caption: Description of the figure and its computation.
        draw: Function that draws the figure.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def catalogue(material: Material, recommendation: Recommendation | None) -> Iterator[Entry]:
    """Yield the figures of one group in the order of the argument: curves, law, peak, edge, recommendation, grid."""
    noise = material.quantity.words
    metrics = " and ".join(material.metrics)
    yield Entry(
        "metric-by-noise", f"{metrics.capitalize()} against the {noise}", _by_noise(material),
        lambda: metric_by_noise(material),
    )  # fmt: skip
    yield Entry("noise-law", f"The best {noise} against width", _noise_law(material), lambda: noise_law(material))
    yield Entry("peak", "The peak against width", _peak(material), lambda: peak(material))
    yield Entry("stability", "Stability edge and largest batch", _stability(material), lambda: stability(material))
    if recommendation is not None:
        yield Entry(
            "recommendation", f"The recommendation for width {recommendation.width:g}", _recommended(recommendation),
            lambda: recommended(material, recommendation),
        )  # fmt: skip
    yield Entry("heat-map", "The grid", _heat_map(material), lambda: heat_map(material))
    yield Entry("collapse", "Collapse in ε/B", _collapse(material), lambda: collapse(material))
    yield Entry(
        "learning-curves", "Learning curves at the optimum", _learning(material), lambda: learning_curves(material)
    )


def _setting(material: Material) -> str:
    series = material.series
    fixed = "ε" if series.fixed == "learning_rate" else "B"
    varied = "batch size" if series.axis == "batch_size" else "learning rate"
    return f"{fixed} = {series.fixed_value:g} and {series.budget} are fixed, and the {varied} varies"


def _by_noise(material: Material) -> str:
    text = f"Mean over seeds of the late-time average, with its 95 % interval; {_setting(material)}. "
    text += "Diamonds: the optimum of each width with its 95 % interval, from inverting a t test on the derivative of "
    text += "each seed's local cubic. An arrow marks an end that the data do not bound. "
    if not material.cells.late.all():
        text += "Open markers: cells that are not late (their accuracy still drifts by more than 0.01). "
    if int(material.cells.failures.sum()):
        text += "The strip below counts diverged and collapsed runs, which count at chance in the means. "
    return text + "Cells far below the peaks lie outside the frame; the heat map shows all cells."


def _noise_law(material: Material) -> str:
    sentences = " ".join(law_sentence(material, metric) for metric in material.metrics)
    return f"{sentences} The band is the 95 % interval of the line. The prediction interval of a new width is wider."


def _peak(material: Material) -> str:
    text = "Each seed's curve is evaluated at the position that the other seeds choose, so that selecting the best "
    text += "cell does not bias its height. Bars: 95 % intervals over seeds. "
    return text + " ".join(peak_sentence(material, metric) for metric in material.metrics)


def _stability(material: Material) -> str:
    if not material.edges:
        return "Without a stability ladder, neither stability-limited optima nor the largest batch size are known."
    steps = max(at.steps for at in material.group.edges)
    text = f"Left: the rate at which the median seed first diverges or collapses within {steps} steps, from separate "
    text += "stability runs, with 95 % intervals, for each measured batch size. Right: the largest batch at which "
    return text + "stable rates still reach the best noise scale, from an equation in B because ε½ depends on B."


def _recommended(recommendation: Recommendation) -> str:
    text = "All points of the dashed line have the same noise; the band is the 95 % interval. Star: the default, B = "
    text += f"{recommendation.batch_size}, ε = {number(recommendation.learning_rate.value)}"
    if any(rung.stable for rung in recommendation.ladder):
        text += ", the largest batch whose rate is at most half of the stability edge and whose interval stays below it"
    else:
        text += "; no batch size is known to be safely stable, and the warnings explain the choice"
    return f"{text}. Source: {'; '.join(recommendation.basis)}."


def _heat_map(material: Material) -> str:
    text = f"Mean {material.split} {material.main_metric} of every cell"
    text += " (%)" if METRICS[material.main_metric].percent else ""
    text += ". Frame: the best cell of each width. Hatching: not late. Cross: some runs diverged or collapsed."
    if material.two_dimensional:
        text += " If ε/B alone decides, the colour is constant along lines of equal ε/B."
    return text


def _collapse(material: Material) -> str:
    if material.two_dimensional:
        return "One panel per width. If ε/B alone decides, the curves of different learning rates coincide."
    text = "With a single value of the fixed axis, rates cannot be compared at equal ε/B. The figure shows the widths "
    law = material.noise_law(material.main_metric)
    if law is None or law.status != "ok":
        return text + "as measured, each relative to its optimum."
    text += "as measured, and shifted by the fitted power of width. The shift aligns their tops if the law holds, so "
    return text + "the remaining differences are differences in shape. Bars: 95 % intervals over seeds."


def _learning(material: Material) -> str:
    metric = material.main_metric
    text = f"Mean over seeds at the cell nearest to each width's optimum by {metric}. Band: one standard deviation."
    return text + " The optimum uses the late-time average, the last part of these curves."
