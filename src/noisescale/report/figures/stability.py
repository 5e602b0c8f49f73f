"""The largest stable rate and the largest batch size against width, compared with the optimum."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisescale.estimate import Estimate
from noisescale.report.material import AXES, Material
from noisescale.report.style import (
    ACCENT,
    INK,
    Color,
    legend_below,
    line_styles,
    log_scale,
    message,
    new_figure,
    pad_log,
)

# An arrow marks an open end of an interval, at the end times or divided by this factor.
_ARROW = 1.12


def stability(material: Material) -> Figure:
    """Draw ε_½ against width for each measured batch size, and B* against width with the batch size at the optimum."""
    if not material.edges:
        return message("The study has no stability ladder ([stability] seeds = 0).")
    metric = material.main_metric
    solved = any(material.largest_batch(metric, width) for width in material.widths)
    figure = new_figure(4.5)
    panels = figure.subplots(1, 2 if solved else 1, squeeze=False)[0]
    _edges(panels[0], material, metric)
    if solved:
        _batches(panels[1], material, metric)
    for axes in panels:
        axes.set_xlabel("width")
        pad_log(axes, "x", material.widths)
        log_scale(axes, "x", material.widths, max_ticks=10)
        log_scale(axes, "y", max_ticks=8)
    handles = [handle for axes in panels for handle in axes.get_legend_handles_labels()[0]]
    legend_below(figure, handles, columns=4)
    return figure


def _edges(axes: Axes, material: Material, metric: str) -> None:
    styles = line_styles(list(material.edges))
    values: list[float] = []
    for index, (batch, edges) in enumerate(material.edges.items()):
        # A small shift separates the intervals of several batch sizes at the same width.
        shift = 1.035 ** (index - (len(styles) - 1) / 2)
        style = styles[batch]
        rates = {width: edge.rate for width, edge in edges.items() if math.isfinite(edge.rate.value)}
        axes.plot([width * shift for width in rates], [rate.value for rate in rates.values()], color=style.color,
                  lw=1.2, marker=style.marker, ls=style.line, label=f"ε½ at B = {batch:g}")  # fmt: skip
        for width, rate in rates.items():
            values += _interval(axes, width * shift, rate, style.color)
    optima = [
        (width, optimum.learning_rate) for width in material.widths if (optimum := material.optimum(metric, width))
    ]
    values += _optima(axes, optima, f"ε at the optimum by {metric}")
    pad_log(axes, "y", values)
    axes.set_ylabel(AXES["learning_rate"])
    axes.set_title("largest stable rate ε½")


def _batches(axes: Axes, material: Material, metric: str) -> None:
    values: list[float] = []
    for label, face in (("solved", ACCENT), ("extrapolated", "white")):
        batches = [
            (width, batch.batch_size)
            for width in material.widths
            if (batch := material.largest_batch(metric, width)) and (batch.label == "solved") == (label == "solved")
        ]
        for width, batch_size in batches:
            values += _interval(axes, width, batch_size, ACCENT)
        if batches:
            text = "largest batch B*" if label == "solved" else "B*, outside the measured edges"
            axes.plot([width for width, _ in batches], [size.value for _, size in batches], marker="s", ms=7,
                      color=ACCENT, mfc=face, ls="none", label=text)  # fmt: skip
    optima = [(width, optimum.batch_size) for width in material.widths if (optimum := material.optimum(metric, width))]
    values += _optima(axes, optima, f"B at the optimum by {metric}")
    pad_log(axes, "y", values)
    axes.set_ylabel(AXES["batch_size"])
    axes.set_title("largest batch that reaches the best noise scale")


def _optima(axes: Axes, optima: list[tuple[float, Estimate]], label: str) -> list[float]:
    if not optima:
        return []
    axes.plot([width for width, _ in optima], [estimate.value for _, estimate in optima], marker="D", ms=6, color=INK,
              mfc="white", ls="none", label=label, zorder=4)  # fmt: skip
    return [value for width, estimate in optima for value in _interval(axes, width, estimate, INK)]


def _interval(axes: Axes, x: float, estimate: Estimate, color: Color) -> list[float]:
    """Draw an interval, with arrows for open ends, and return the finite values that the axis must show."""
    low = estimate.low if math.isfinite(estimate.low) else estimate.value
    high = estimate.high if math.isfinite(estimate.high) else estimate.value
    axes.plot([x, x], [low, high], color=color, lw=1.2, zorder=3)
    shown = [low, estimate.value, high]
    for given, end, marker in ((estimate.low, low / _ARROW, "v"), (estimate.high, high * _ARROW, "^")):
        if math.isinf(given):
            axes.plot([x], [end], marker=marker, color=color, ms=4.5, zorder=3)
            shown.append(end)
    return shown
