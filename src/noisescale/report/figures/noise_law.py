"""The best noise scale against width for each metric, with the fitted law and its band."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from noisescale.laws import MetricOptimum, PowerLaw
from noisescale.report.material import Material
from noisescale.report.numbers import with_interval
from noisescale.report.style import ACCENT, INK, MUTED, legend_below, log_scale, message, new_figure, pad_log

_BAND_POINTS = 25


def noise_law(material: Material) -> Figure:
    """Draw the optimum of each width with its interval, and the law with its 95 % band. Arrows show bounds."""
    metrics = [
        metric for metric in material.metrics if any(material.optimum(metric, width) for width in material.widths)
    ]
    if not metrics:
        return message("No width has an optimum to draw. The table gives the reasons.")
    figure = new_figure(4.4)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    pad_log(panels[0], "y", material.all_cells.place.tolist(), 0.03)
    for axes, metric in zip(panels, metrics, strict=True):
        pad_log(axes, "x", material.widths)
        log_scale(axes, "x", material.widths, max_ticks=10)
        log_scale(axes, "y", max_ticks=9)
        axes.set_xlabel("width")
        axes.set_title(_title(metric, material.noise_law(metric)))
        _panel(axes, material, metric)
    panels[0].set_ylabel(f"best {material.place_label}")
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=INK, marker="D", label="optimum in the law, 95 % interval"),
        Line2D([], [], color=MUTED, marker="D", mfc="white", label="optimum not in the law"),
        Line2D([], [], color=ACCENT, marker="v", ls="none", label="bound: at or beyond this end"),
        Line2D([], [], color=ACCENT, label="law"),
        Patch(color=ACCENT, alpha=0.15, lw=0, label="95 % band of the law's line"),
        Line2D([], [], color=MUTED, ls=":", label="ends of the usable cells"),
    ]
    legend_below(figure, handles, columns=3)
    return figure


def _title(metric: str, law: PowerLaw | None) -> str:
    if law is None or law.status != "ok":
        return f"by {metric}: no law, {0 if law is None else len(law.widths)} usable widths"
    return f"by {metric}: slope {with_interval(law.slope)}"


def _panel(axes: Axes, material: Material, metric: str) -> None:
    _law(axes, material, material.noise_law(metric))
    for width in material.widths:
        cells = material.cells[(material.cells.width == width) & material.cells.usable]
        if cells.empty:
            continue
        ends = float(cells.place.min()), float(cells.place.max())
        for end in ends:
            axes.plot([width / 1.12, width * 1.12], [end, end], color=MUTED, ls=":", lw=1.2, zorder=1)
        optimum = material.optimum(metric, width)
        if optimum is not None:
            _point(axes, material, width, optimum, ends)


def _law(axes: Axes, material: Material, law: PowerLaw | None) -> None:
    if law is None or law.status != "ok" or len(law.widths) < 2:
        return
    widths = [float(width) for width in np.geomspace(min(law.widths), max(law.widths), _BAND_POINTS)]
    axes.plot(widths, [math.exp(law.log_at(width)) for width in widths], color=ACCENT, zorder=2)
    band = [law.at(width, new=False) for width in widths]
    low, high = axes.get_ylim()
    axes.fill_between(widths, [max(estimate.low, low) for estimate in band],
                      [min(estimate.high, high) for estimate in band],
                      color=ACCENT, alpha=0.15, lw=0)  # fmt: skip


def _point(axes: Axes, material: Material, width: float, optimum: MetricOptimum, ends: tuple[float, float]) -> None:
    place = material.value_at(optimum)
    if optimum.curve.censored:
        marker = "v" if optimum.curve.censored < 0 else "^"
        axes.plot(
            [width],
            [place.value],
            marker=marker,
            color=ACCENT,
            mfc=ACCENT if optimum.in_law else "white",
            ms=8,
            zorder=4,
        )
        return
    color = INK if optimum.in_law else MUTED
    low = place.low if math.isfinite(place.low) else ends[0]
    high = place.high if math.isfinite(place.high) else ends[1]
    axes.plot([width, width], [low, high], color=color, lw=1.4, zorder=3)
    for end, given, arrow in ((low, place.low, "v"), (high, place.high, "^")):
        axes.plot([width], [end], marker="_" if math.isfinite(given) else arrow, color=color, ms=7, zorder=3)
    axes.plot([width], [place.value], marker="D", color=color, mfc=color if optimum.in_law else "white", ms=6, zorder=4)
