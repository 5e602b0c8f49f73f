"""The figures of a page in their order, each with its title and a caption that says how it was computed."""

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
    """One figure of the page.

    Args:
        name: of its files.
        title: above it.
        caption: what is seen and how it was computed.
        draw: makes it.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def catalogue(material: Material, recommendation: Recommendation | None) -> Iterator[Entry]:
    """The figures of one group, in the order of the argument: curves, law, peak, edge, recommendation, grid."""
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
    held = "ε" if series.fixed == "learning_rate" else "B"
    varied = "batch size" if series.axis == "batch_size" else "learning rate"
    return f"{held} = {series.fixed_value:g} and {series.budget} are held fixed and the {varied} is varied"


def _by_noise(material: Material) -> str:
    text = f"Mean over seeds of the late-time average, with its 95 % interval; {_setting(material)}. "
    text += "Diamonds: the optimum of each width with its 95 % interval, by inverting a t test on the derivative of "
    text += "per-seed local cubics; an arrow marks an end that the data do not bound. "
    if not material.cells.late.all():
        text += "Open markers: cells that are not late, whose accuracy still moves by more than 0.01. "
    if int(material.cells.failures.sum()):
        text += "The strip below counts diverged and collapsed runs, which enter the means at chance. "
    return text + "Cells far below the peaks lie outside the frame; the heat map holds them all."


def _noise_law(material: Material) -> str:
    sentences = " ".join(law_sentence(material, metric) for metric in material.metrics)
    return f"{sentences} The band is that of the line, not of a new width, whose prediction interval is wider."


def _peak(material: Material) -> str:
    text = "Each seed is read off its own curve at the place that the other seeds choose, so that choosing the best "
    text += "cell does not bias its height; 95 % intervals over seeds. "
    return text + " ".join(peak_sentence(material, metric) for metric in material.metrics)


def _stability(material: Material) -> str:
    if not material.edges:
        return "Without a stability ladder no optimum can be called stability-limited and no largest batch is known."
    steps = max(at.steps for at in material.group.edges)
    text = f"Left: the rate at which the median seed first diverges or collapses within {steps} steps, from its own "
    text += "ladder and its own seeds, with 95 % intervals, for each measured batch size. Right: the largest batch at "
    return text + "which the stable rates still reach the best noise scale, solved for itself because ε½ depends on B."


def _recommended(found: Recommendation) -> str:
    text = "All points of the dashed line have the same noise; its band is the 95 % interval. Star: the default, B = "
    text += f"{found.batch_size}, ε = {number(found.learning_rate.value)}"
    if any(rung.stable for rung in found.ladder):
        text += ", the largest batch whose rate is at most half of the stability edge and whose interval stays below it"
    else:
        text += "; no batch is known to be safely stable, and the warnings say how it was chosen"
    return f"{text}. From: {'; '.join(found.basis)}."


def _heat_map(material: Material) -> str:
    text = f"Mean {material.split} {material.one_metric} of every cell"
    text += " (%)" if METRICS[material.one_metric].percent else ""
    text += "; framed: the best cell of each width. Hatched: not late. Cross: some runs diverged or collapsed."
    return text if not material.two_dimensional else text + " Along a line of equal ε/B the colour should not change."


def _collapse(material: Material) -> str:
    if material.two_dimensional:
        return "One panel a width: if ε/B alone decides, the curves of different learning rates coincide."
    text = "With one value of the fixed axis there is no second rate to compare at equal ε/B: shown are the widths "
    law = material.noise_law(material.one_metric)
    if law is None or law.status != "ok":
        return text + "as measured, each relative to its own optimum."
    text += "as measured, and moved by the fitted power of width, which brings their tops together as far as the law "
    return text + "holds; what is left between the curves is their shape. Bars: 95 % over seeds."


def _learning(material: Material) -> str:
    metric = material.one_metric
    text = f"Mean over seeds at the cell nearest to each width's optimum by {metric}; band: one standard deviation."
    return text + " The optimum is read off the late-time average, the last part of these curves."
