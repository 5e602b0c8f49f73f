"""The recommended ladder of (batch size, learning rate), with the stability edge."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from noisescale.estimate import Estimate
from noisescale.laws import Recommendation
from noisescale.report.material import AXES, Material
from noisescale.report.style import ACCENT, INK, MUTED, Color, legend_below, log_scale, new_figure, pad_log, plain

_EDGE = "#1d4e89"


def recommended(material: Material, recommendation: Recommendation) -> Figure:
    """Draw ε(B) at the recommended noise scale with its interval, ε_½(B), half of ε_½(B), and the default."""
    figure = new_figure(4.6)
    axes = figure.subplots()
    batches = [float(rung.batch_size) for rung in recommendation.ladder]
    rates = [rung.learning_rate for rung in recommendation.ladder]
    edges = [rung.stability_edge for rung in recommendation.ladder]
    cells = material.all_cells
    axes.plot(cells.batch_size, cells.learning_rate, ".", color="#b5b5b5", ms=5, label="cells of the study", zorder=1)
    shown = [*cells.learning_rate, *(rate.value for rate in rates)]
    measured = [(batch, edge) for batch, edge in zip(batches, edges, strict=True) if math.isfinite(edge.value)]
    shown += [edge.value for _, edge in measured]
    pad_log(axes, "y", shown)
    pad_log(axes, "x", [*batches, *cells.batch_size], 0.03)
    if measured:
        edge_batches = [batch for batch, _ in measured]
        _band(axes, edge_batches, [edge for _, edge in measured], _EDGE, "-", "stability edge ε½, 95 %")
        axes.plot(edge_batches, [edge.value / 2 for _, edge in measured], color=_EDGE, ls=":", label="half of the edge")
    symbol = material.quantity.tex
    by_rate = material.quantity.name == "learning_rate"
    label = "best ε, 95 %" if by_rate else f"ε at {symbol} = {plain(_noise(material, recommendation))}, 95 %"
    _band(axes, batches, rates, ACCENT, "--", label)
    unstable = [(rung.batch_size, rung.learning_rate.value) for rung in recommendation.ladder if rung.stable is False]
    if unstable:
        axes.plot(*np.array(unstable).T, "x", color=MUTED, ms=6, mew=1.4, label="not safely stable", zorder=4)
    default = [recommendation.batch_size], [recommendation.learning_rate.value]
    axes.plot(*default, marker="*", ms=17, color=INK, mfc="#ffd166", ls="none", label="recommended", zorder=6)
    log_scale(axes, "x", _powers(batches), max_ticks=14)
    log_scale(axes, "y", max_ticks=9)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(AXES["batch_size"])
    axes.set_ylabel(AXES["learning_rate"])
    axes.set_title(f"width {recommendation.width:g}")
    legend_below(figure, axes.get_legend_handles_labels()[0], columns=3)
    return figure


def _band(axes: Axes, batches: list[float], estimates: list[Estimate], color: Color, line: str, label: str) -> None:
    low, high = axes.get_ylim()
    lows = [estimate.low if math.isfinite(estimate.low) else low for estimate in estimates]
    highs = [estimate.high if math.isfinite(estimate.high) else high for estimate in estimates]
    axes.fill_between(
        batches, np.maximum(lows, low), np.minimum(highs, high), color=color, alpha=0.13, lw=0, zorder=1.5
    )
    values = [estimate.value for estimate in estimates]
    axes.plot(batches, values, color=color, ls=line, marker=".", ms=4, label=label, zorder=3)


def _noise(material: Material, recommendation: Recommendation) -> float:
    return float(getattr(recommendation, material.quantity.name).value)


def _powers(batches: list[float]) -> list[float]:
    """Return the powers of two among the batch sizes, or all batch sizes if there is no power of two."""
    return [batch for batch in batches if math.log2(batch).is_integer()] or batches
