"""The metric against ε/B, in one panel per width or with the widths aligned by the law."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from noisescale.report.material import AXES, Material
from noisescale.report.style import LineStyle, legend_below, line_styles, log_scale, new_figure, pad_log, panel_grid
from noisescale.training import METRICS

_COLUMNS = 3


def collapse(material: Material) -> Figure:
    """Draw a panel per width with a curve for each rate. If the grid has a single series, draw all widths together."""
    metric = material.main_metric
    return _rates(material, metric) if material.two_dimensional else _widths(material, metric)


def _rates(material: Material, metric: str) -> Figure:
    cells = material.all_cells
    styles = line_styles(cells.learning_rate.tolist())
    figure = new_figure(0.9 + 2.5 * math.ceil(len(material.widths) / _COLUMNS))
    labels = AXES["temperature"], material.metric_label(metric)
    panels = panel_grid(figure, len(material.widths), _COLUMNS, *labels)
    for axes, width in zip(panels, material.widths, strict=True):
        for rate, style in styles.items():
            curve = cells[(cells.width == width) & (cells.learning_rate == rate)].sort_values("temperature")
            axes.errorbar(curve.temperature, curve[metric], yerr=np.nan_to_num(curve[f"{metric}_half"], posinf=0.0),
                          color=style.color, ls="none", elinewidth=0.8, zorder=2)  # fmt: skip
            axes.plot(
                curve.temperature, curve[metric], color=style.color, marker=style.marker, ms=4.5, lw=0.8, alpha=0.9
            )
        axes.set_title(f"width {width:g}")
        pad_log(axes, "x", cells.temperature.tolist())
        log_scale(axes, "x", max_ticks=5)
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, label=f"ε = {rate:.3g}")
        for rate, style in styles.items()
    ]
    legend_below(figure, handles, columns=min(len(handles), 7))
    return figure


def _widths(material: Material, metric: str) -> Figure:
    cells, styles = material.cells, line_styles(material.widths)
    law = material.noise_law(metric)
    slope = law.slope.value if law is not None and law.status == "ok" else math.nan
    shifted = len(material.widths) > 1 and math.isfinite(slope)
    figure = new_figure(4.1)
    panels = figure.subplots(1, 2 if shifted else 1, squeeze=False, sharey=True)[0]
    base = min(material.widths, default=1)
    for width in material.widths:
        curve = cells[cells.width == width].sort_values("temperature")
        height = _relative(material, curve, metric, width)
        half_width = np.nan_to_num(curve[f"{metric}_half"], posinf=0.0)
        _curve(panels[0], curve.temperature, height, half_width, styles[width])
        if shifted:
            _curve(panels[1], curve.temperature * (width / base) ** -slope, height, half_width, styles[width])
    for axes in panels:
        axes.relim()
        pad_log(axes, "x", np.concatenate([line.get_xdata() for line in axes.lines]).tolist(), 0.03)
        log_scale(axes, "x")
        axes.axhline(0, color="#999999", lw=0.8, zorder=1)
    panels[0].set_xlabel(AXES["temperature"])
    panels[0].set_ylabel(f"{material.metric_label(metric)}\nminus its value at the optimum")
    panels[0].set_title("as measured")
    if shifted:
        panels[1].set_xlabel(f"ε/(B(1−m)) · (width/{base:g})$^{{{-slope:.2f}}}$")
        panels[1].set_title("shifted by the law")
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, ls=style.line, label=f"width {width:g}")
        for width, style in styles.items()
    ]
    legend_below(figure, handles, columns=min(len(handles), 7))
    return figure


def _relative(material: Material, curve: pd.DataFrame, metric: str, width: float) -> pd.Series:
    optimum = material.optimum(metric, width)
    if optimum is not None:
        reference = material.height_on_curve(metric, width, material.value_at(optimum).value)
    else:
        reference = METRICS[metric].sign * (METRICS[metric].sign * curve[metric]).max()
    return curve[metric] - reference


def _curve(axes: Axes, x: pd.Series, y: pd.Series, half_width: NDArray[np.float64], style: LineStyle) -> None:
    axes.errorbar(x, y, yerr=half_width, color=style.color, ls="none", elinewidth=0.8, zorder=1.5)
    axes.plot(x, y, color=style.color, marker=style.marker, ls=style.line, ms=4.5, lw=1.2)
