"""The best accuracy and the best loss against width."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisescale.report.material import Material
from noisescale.report.style import INK, MUTED, legend_below, log_scale, message, new_figure, pad_log


def peak(material: Material) -> Figure:
    """Draw the metric at the optimum of each width with its 95 % interval."""
    heights = {}
    for metric in material.metrics:
        optima = [(width, material.optimum(metric, width)) for width in material.widths]
        shown = [
            (width, optimum) for width, optimum in optima if optimum is not None and math.isfinite(optimum.height.value)
        ]
        if shown:
            heights[metric] = shown
    if not heights:
        return message("No width has an optimum to draw. The table gives the reasons.")
    figure = new_figure(3.7)
    panels = figure.subplots(1, len(heights), squeeze=False)[0]
    for axes, (metric, shown) in zip(panels, heights.items(), strict=True):
        axes.plot(
            [width for width, _ in shown], [optimum.height.value for _, optimum in shown], color=MUTED, lw=1, zorder=1
        )
        for width, optimum in shown:
            height = optimum.height
            if height.bounded:
                axes.plot([width] * 2, [height.low, height.high], color=INK, marker="_", ms=8, lw=1.4)
            face = INK if optimum.curve.label == "interior" else "white"
            axes.plot([width], [height.value], marker="D", color=INK, mfc=face, ms=6, ls="none")
        axes.set_xlabel("width")
        axes.set_ylabel(f"{material.metric_label(metric, 'test')}\nat the optimum")
        pad_log(axes, "x", material.widths)
        log_scale(axes, "x", material.widths, max_ticks=10)
    handles = [
        Line2D([], [], color=INK, marker="D", label="interior optimum, 95 % interval"),
        Line2D([], [], color=INK, marker="D", mfc="white", label="optimum not bounded on both sides"),
    ]
    legend_below(figure, handles, columns=2)
    return figure
