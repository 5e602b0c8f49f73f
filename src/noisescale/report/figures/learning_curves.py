"""Learning curves of the cell nearest to the optimum of each width, as a mean over seeds with a band."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from noisescale.report.material import Material
from noisescale.report.style import INK, LineStyle, legend_below, line_styles, message, new_figure, plain

Columns = list[tuple[str, str]]


def learning_curves(material: Material) -> Figure:
    """Draw the mean accuracy and loss against steps at each width's best cell, with one standard deviation."""
    runs = {width: material.runs_at_optimum(width) for width in material.widths}
    runs = {width: at_optimum for width, at_optimum in runs.items() if not at_optimum.empty}
    if not runs:
        return message("No run has finished at an optimum.")
    curves = material.curves.merge(pd.concat(runs.values())[["run_id", "width"]], on="run_id")
    panels = [panel for panel in _panels(material) if _measured(curves, panel[1])]
    figure = new_figure(4.0)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    styles = line_styles(material.widths)
    for axes, (label, columns) in zip(all_axes, panels, strict=True):
        for width in runs:
            for column, dashed in columns:
                _band(axes, curves[curves.width == width], column, styles[width], bool(dashed))
        axes.set_xlabel("training step")
        axes.set_ylabel(label)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: plain(value))
        axes.locator_params(axis="x", nbins=5)
    _limit_loss(all_axes[-1], curves, panels[-1][1])
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=styles[width].color, label=f"width {width:g}", lw=2.2)
        for width in material.widths
        if width in runs
    ]
    handles += [Line2D([], [], color=INK, ls=ls, label=label) for ls, label in (("-", material.split), ("--", "train"))]
    handles.append(Patch(color=INK, alpha=0.15, lw=0, label="± 1 s.d. over seeds"))
    legend_below(figure, handles, columns=min(len(handles), 5))
    return figure


def _measured(curves: pd.DataFrame, columns: Columns) -> bool:
    return any(name in curves and curves[name].notna().any() for name, _ in columns)


def _panels(material: Material) -> list[tuple[str, Columns]]:
    split = material.split
    return [
        ("accuracy", [(f"{split}_accuracy", ""), ("train_accuracy", "dashed")]),
        (f"loss ({material.units['loss']})", [(f"{split}_loss", ""), ("train_loss", "dashed")]),
    ]


def _band(axes: Axes, curves: pd.DataFrame, column: str, style: LineStyle, dashed: bool) -> None:
    if column not in curves or curves[column].isna().all():
        return
    table = curves.pivot_table(index="step", columns="run_id", values=column)
    mean, spread = table.mean(axis=1), table.std(axis=1, ddof=1).fillna(0.0)
    axes.fill_between(mean.index, mean - spread, mean + spread, color=style.color, alpha=0.15, lw=0)
    axes.plot(mean.index, mean, color=style.color, ls="--" if dashed else "-", lw=1.1 if dashed else 1.6)


def _limit_loss(axes: Axes, curves: pd.DataFrame, columns: Columns) -> None:
    """Limit the loss axis, so that the initial loss and spikes do not flatten the curves."""
    later = curves[curves.step > 0]
    values = np.concatenate([later[name].dropna().to_numpy(float) for name, _ in columns if name in later])
    values = values[np.isfinite(values)]
    if values.size and math.isfinite(high := float(np.quantile(values, 0.99))):
        axes.set_ylim(0, high * 1.1)
