"""The recommended ladder of (batch size, learning rate) and the stability edge above it."""

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


def recommended(material: Material, found: Recommendation) -> Figure:
    """Draw ε(B) at the recommended noise scale with its interval, ε_½(B) and its half, and the default."""
    figure = new_figure(4.6)
    axes = figure.subplots()
    batches = [float(rung.batch_size) for rung in found.ladder]
    rates = [rung.learning_rate for rung in found.ladder]
    edges = [rung.stability_edge for rung in found.ladder]
    cells = material.all_cells
    axes.plot(cells.batch_size, cells.learning_rate, ".", color="#b5b5b5", ms=5, label="cells of the study", zorder=1)
    shown = [*cells.learning_rate, *(rate.value for rate in rates)]
    known = [(batch, edge) for batch, edge in zip(batches, edges, strict=True) if math.isfinite(edge.value)]
    shown += [edge.value for _, edge in known]
    pad_log(axes, "y", shown)
    pad_log(axes, "x", [*batches, *cells.batch_size], 0.03)
    if known:
        places = [batch for batch, _ in known]
        _band(axes, places, [edge for _, edge in known], _EDGE, "-", "stability edge ε½, 95 %")
        axes.plot(places, [edge.value / 2 for _, edge in known], color=_EDGE, ls=":", label="half of the edge")
    symbol = material.quantity.tex
    by_rate = material.quantity.name == "learning_rate"
    label = "best ε, 95 %" if by_rate else f"ε at {symbol} = {plain(_noise(material, found))}, 95 %"
    _band(axes, batches, rates, ACCENT, "--", label)
    unstable = [(rung.batch_size, rung.learning_rate.value) for rung in found.ladder if rung.stable is False]
    if unstable:
        axes.plot(*np.array(unstable).T, "x", color=MUTED, ms=6, mew=1.4, label="not safely stable", zorder=4)
    axes.plot([found.batch_size], [found.learning_rate.value], marker="*", ms=17, color=INK, mfc="#ffd166",
              ls="none", label="recommended", zorder=6)  # fmt: skip
    log_scale(axes, "x", _powers(batches), most=14)
    log_scale(axes, "y", most=9)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(AXES["batch_size"])
    axes.set_ylabel(AXES["learning_rate"])
    axes.set_title(f"width {found.width:g}")
    legend_below(figure, axes.get_legend_handles_labels()[0], columns=3)
    return figure


def _band(axes: Axes, places: list[float], estimates: list[Estimate], color: Color, line: str, label: str) -> None:
    low, high = axes.get_ylim()
    lows = [e.low if math.isfinite(e.low) else low for e in estimates]
    highs = [e.high if math.isfinite(e.high) else high for e in estimates]
    axes.fill_between(places, np.maximum(lows, low), np.minimum(highs, high), color=color, alpha=0.13, lw=0, zorder=1.5)
    axes.plot(places, [e.value for e in estimates], color=color, ls=line, marker=".", ms=4, label=label, zorder=3)


def _noise(material: Material, found: Recommendation) -> float:
    return float(getattr(found, material.quantity.name).value)


def _powers(batches: list[float]) -> list[float]:
    """Powers of two among the batches; all of them where there is none."""
    return [batch for batch in batches if math.log2(batch).is_integer()] or batches
