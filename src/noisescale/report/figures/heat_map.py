"""A heat map of the metric, over learning rate and batch size for each width, or over width and one of the two."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from noisescale.report.material import AXES, Material
from noisescale.report.style import message, new_figure, panel_grid, plain
from noisescale.training import METRICS

_COLUMNS = 3

# With more columns in a panel, the numbers in the cells would be too small to read.
_MAX_COLUMNS = 12
_MAX_TICKS = 12


def heat_map(material: Material) -> Figure:
    """Draw a panel over (ε, B) for each width. If the grid has one series, draw one panel over width and B or ε.

    Hatching marks cells that are not late, a cross marks failed runs, and a frame marks the best cell of each width.
    """
    metric, cells = material.main_metric, material.all_cells
    if not material.metrics:
        return message("No metric was measured.")
    norm = Normalize(*_range(cells, metric))
    if material.two_dimensional:
        figure, panels = _by_width(material, metric, norm)
    else:
        figure, panels = _one_panel(material, metric, norm)
    colors = ScalarMappable(norm, _colors(metric))
    figure.colorbar(colors, ax=panels, label=material.metric_label(metric), shrink=0.9, pad=0.015, aspect=28)
    return figure


def _one_panel(material: Material, metric: str, norm: Normalize) -> tuple[Figure, list[Axes]]:
    cells, column = material.cells, material.series.axis
    figure = new_figure(1.6 + 0.38 * len(material.widths))
    axes = figure.subplots()
    _draw(axes, cells, column, "width", metric, norm, best_in_row=True)
    axes.set_xlabel(AXES[column])
    axes.set_ylabel("width")
    return figure, [axes]


def _by_width(material: Material, metric: str, norm: Normalize) -> tuple[Figure, list[Axes]]:
    figure = new_figure(0.6 + 2.7 * math.ceil(len(material.widths) / _COLUMNS))
    labels = AXES["learning_rate"], AXES["batch_size"]
    panels = panel_grid(figure, len(material.widths), _COLUMNS, *labels)
    for axes, width in zip(panels, material.widths, strict=True):
        _draw(axes, material.all_cells[material.all_cells.width == width], "learning_rate", "batch_size", metric, norm)
        axes.set_title(f"width {width:g}")
    return figure, panels


def _draw(
    axes: Axes, cells: pd.DataFrame, column: str, row: str, metric: str, norm: Normalize, best_in_row: bool = False
) -> None:
    xs, ys = sorted(cells[column].unique()), sorted(cells[row].unique())
    axes.grid(False)
    axes.set_xlim(-0.5, len(xs) - 0.5)
    axes.set_ylim(-0.5, len(ys) - 0.5)
    show_numbers = len(xs) <= _MAX_COLUMNS
    colors = _colors(metric)
    for cell in cells.itertuples():
        i, j, value = xs.index(getattr(cell, column)), ys.index(getattr(cell, row)), getattr(cell, metric)
        if not math.isfinite(value):
            continue
        color = colors(norm(value))
        hatch = None if cell.late else "////"
        axes.fill_between([i - 0.5, i + 0.5], j - 0.5, j + 0.5, color=color, lw=0)
        if hatch:
            axes.fill_between([i - 0.5, i + 0.5], j - 0.5, j + 0.5, facecolor="none", edgecolor="#ffffff90",
                              hatch=hatch, lw=0)  # fmt: skip
        ink = "white" if np.dot(color[:3], (0.3, 0.59, 0.11)) < 0.55 else "black"
        if show_numbers:
            text = f"{100 * value:.1f}" if METRICS[metric].percent else f"{value:.2f}"
            axes.text(i, j, text, ha="center", va="center", fontsize=8.5, color=ink)
        if cell.failures:
            position = (i + 0.36, j + 0.28) if show_numbers else (i, j)
            axes.plot(*position, marker="x", color=ink, ms=4, mew=1.2)
    for _, part in cells.groupby(row) if best_in_row else [(None, cells)]:
        _frame_best(axes, part, xs, ys, column, row, metric)
    _labels(axes, "x", xs)
    _labels(axes, "y", ys)


def _frame_best(
    axes: Axes, cells: pd.DataFrame, xs: list[float], ys: list[float], column: str, row: str, metric: str
) -> None:
    measured = cells[cells[metric].notna()]
    if measured.empty:
        return
    best = measured.iloc[int(np.argmax(METRICS[metric].sign * measured[metric]))]
    i, j = xs.index(best[column]), ys.index(best[row])
    axes.plot(np.array([-0.46, 0.46, 0.46, -0.46, -0.46]) + i, np.array([-0.44, -0.44, 0.44, 0.44, -0.44]) + j,
              color="#d00000", lw=1.8)  # fmt: skip


def _labels(axes: Axes, which: str, values: list[float]) -> None:
    step = math.ceil(len(values) / _MAX_TICKS)
    positions = list(range(0, len(values), step))
    getattr(axes, f"set_{which}ticks")(positions, [plain(values[position]) for position in positions])
    axes.tick_params(length=0)


def _colors(metric: str) -> Colormap:
    return mpl.colormaps["cividis" if METRICS[metric].direction == "max" else "cividis_r"]


def _range(cells: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Return the ends of the color scale. Very bad values are cut off, because they would hide other differences."""
    values = cells.loc[cells.failures == 0, metric].dropna()
    values = values if len(values) else cells[metric].dropna()
    low, high = float(values.min()), float(values.max())
    median = float(values.median())
    if METRICS[metric].percent:
        low = max(low, median - 4 * (high - median) - 0.02)
    else:
        high = min(high, median + 4 * (median - low) + 0.02)
    return low, max(high, low + 1e-6)
