"""Accuracy and loss against the noise scale, with a curve for each width and its optimum."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisescale.report.material import Material
from noisescale.report.style import (
    INK,
    LineStyle,
    legend_below,
    line_styles,
    log_scale,
    message,
    new_figure,
    pad_log,
    plain,
)
from noisescale.training import METRICS

# Distance of an open end's arrow from the last cell, as a share of the logarithmic range of the cells.
_ARROW = 0.017


def metric_by_noise(material: Material) -> Figure:
    """Draw the means and intervals of all cells, the optima with their intervals, and the counts of failures.

    Open markers show cells that are not late.
    """
    cells, metrics, styles = material.all_cells, material.metrics, line_styles(material.widths)
    if not metrics:
        return message("No metric was measured.")
    failing = sorted(material.cells.loc[material.cells.failures > 0, "width"].unique())
    strip = 0.35 + 0.17 * len(failing)
    ratios = [4.3] * len(metrics) + ([strip] if failing else [])
    figure = new_figure(sum(ratios) + 0.8)
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    pad_log(panels[-1], "x", cells.place.tolist(), 0.04)
    for axes in panels:
        log_scale(axes, "x", max_ticks=11)
    for axes, metric in zip(panels, metrics, strict=False):
        _panel(axes, material, metric, styles)
    if failing:
        _failures(panels[-1], material.cells, failing, styles)
    panels[-1].set_xlabel(material.place_label)
    legend_below(figure, _legend(material, styles), columns=5)
    return figure


def _panel(axes: Axes, material: Material, metric: str, styles: dict[float, LineStyle]) -> None:
    for width in material.widths:
        cells = material.all_cells[material.all_cells.width == width]
        _curve(axes, cells[cells.primary], metric, styles[width])
        for _, curve in cells[~cells.primary].groupby(material.series.fixed):
            axes.plot(curve.place, curve[metric], color=styles[width].color, lw=0.9, alpha=0.45, zorder=1.5)
    for width in material.widths:
        _optimum(axes, material, metric, width, styles[width])
    axes.set_ylabel(material.metric_label(metric))
    axes.set_ylim(*_limits(material, metric))


def _curve(axes: Axes, curve: pd.DataFrame, metric: str, style: LineStyle) -> None:
    x, y = curve.place.to_numpy(float), curve[metric].to_numpy(float)
    error = np.nan_to_num(curve[f"{metric}_half"].to_numpy(float), posinf=0.0)
    axes.errorbar(x, y, yerr=error, color=style.color, ls=style.line, lw=1.3, elinewidth=0.9, zorder=2)
    late = curve.late.to_numpy(bool)
    for mask, face in ((late, style.color), (~late, "white")):
        axes.plot(x[mask], y[mask], marker=style.marker, ls="none", mfc=face, mec=style.color, mew=1.2, zorder=3)


def _optimum(axes: Axes, material: Material, metric: str, width: float, style: LineStyle) -> None:
    optimum = material.optimum(metric, width)
    if optimum is None:
        return
    place, positions = material.value_at(optimum), material.cells.loc[material.cells.width == width, "place"]
    # The height is reported on the test set, so it does not lie on a curve of validation data.
    height = optimum.height.value if material.split == "test" else math.nan
    height = height if math.isfinite(height) else material.height_on_curve(metric, width, place.value)
    low = place.low if math.isfinite(place.low) else float(positions.min())
    high = place.high if math.isfinite(place.high) else float(positions.max())
    axes.plot([low, high], [height] * 2, color=INK, lw=2.2, solid_capstyle="butt", zorder=5)
    ends = material.all_cells.place
    outward = float(ends.max() / ends.min()) ** _ARROW
    for given, end, factor, arrow in ((place.low, low, 1 / outward, "<"), (place.high, high, outward, ">")):
        if math.isinf(given):
            axes.plot([end * factor], [height], color=INK, zorder=5, marker=arrow, ms=7, clip_on=False)
        elif math.isfinite(given):
            axes.plot([end], [height], color=INK, zorder=5, marker="|", ms=8)
    axes.plot([place.value], [height], marker="D", ms=8, mfc=style.color, mec=INK, mew=1.3, ls="none", zorder=6)


def _failures(axes: Axes, cells: pd.DataFrame, widths: list[float], styles: dict[float, LineStyle]) -> None:
    """Draw a strip with the number of diverged and collapsed runs of each cell, one row per width."""
    for row, width in enumerate(widths):
        failing = cells[(cells.width == width) & (cells.failures > 0)]
        for place, failures, runs in zip(failing.place, failing.failures, failing.runs, strict=True):
            axes.text(
                place, row, f"{failures}/{runs}", ha="center", va="center", fontsize=7.5, color=styles[width].color
            )
    axes.set_ylim(-0.6, len(widths) - 0.4)
    axes.set_yticks(range(len(widths)), [f"width {width:g}" for width in widths], fontsize=7.5)
    axes.set_ylabel("failed", fontsize=9)
    axes.grid(False)


def _limits(material: Material, metric: str) -> tuple[float, float]:
    """Return axis limits that cut off very bad values. Cells near divergence would otherwise flatten all peaks."""
    sign = METRICS[metric].sign
    values = sign * material.all_cells[metric].dropna()
    tops = values.groupby(material.all_cells.width).max()
    best, lowest_top = float(tops.max()), float(tops.min())
    floor = max(float(values.min()), lowest_top - max(2.0 * (best - lowest_top), 0.25 * abs(best)))
    room = 0.04 * (best - floor) + 1e-6
    ends = (sign * (floor - room), sign * (best + 1.5 * room))
    return min(ends), max(ends)


def _legend(material: Material, styles: dict[float, LineStyle]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, ls=style.line, label=f"width {width:g}")
        for width, style in styles.items()
    ]
    handles.append(Line2D([], [], color=INK, marker="D", ls="-", lw=2, mfc="white", label="optimum, 95 % interval"))
    if not material.cells.late.all():
        handles.append(Line2D([], [], color=INK, marker="o", ls="none", mfc="white", label="not late: still drifting"))
    if material.two_dimensional:
        symbol = "ε" if material.series.fixed == "learning_rate" else "B"
        label = f"{symbol} other than {plain(material.series.fixed_value)}"
        handles.append(Line2D([], [], color=INK, lw=0.9, alpha=0.45, label=label))
    return handles
