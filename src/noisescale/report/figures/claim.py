"""The figure of a verdict, with its panels one below the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from noisescale.claims import Curve, Panel, Verdict
from noisescale.report.style import INK, LINES, MARKERS, Color, legend_below, line_styles, log_scale, new_figure

# Curves with more points than this and with ascending x are drawn as lines. Other curves are drawn as points.
_MAX_POINTS = 30
_PANEL_HEIGHT = 4.2


def claim_figure(verdict: Verdict, panels: Sequence[Panel]) -> Figure:
    """Draw measurements as points or colored lines, and theory and references as black lines.

    Args:
        verdict: Verdict, for the title.
        panels: Panels, from top to bottom.

    Returns:
        The figure.
    """
    figure = new_figure(_PANEL_HEIGHT * len(panels))
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False).flat, panels, strict=True):
        _draw(axes, panel)
        if len(panels) > 1:
            axes.legend(*axes.get_legend_handles_labels(), loc="best")
    title = figure_title(verdict.id, verdict.verdict, verdict.scale, verdict.seeds, verdict.first_seed)
    figure.axes[0].set_title(title)
    if len(panels) == 1:
        legend_below(figure, figure.axes[0].get_legend_handles_labels()[0], columns=2)
    return figure


def figure_title(id: str, verdict: str, scale: str, seeds: int, first_seed: int) -> str:
    """Write the title of a verdict's figure, which identifies the run that the figure shows.

    Args:
        id: Identifier of the claim.
        verdict: Verdict, in words.
        scale: Scale of the experiment.
        seeds: Number of seeds.
        first_seed: First seed of the seed set.

    Returns:
        The title.
    """
    return f"{id}: {verdict} ({scale} scale, {seeds:,} seeds from {first_seed})"


def _draw(axes: Axes, panel: Panel) -> None:
    measured = [curve for curve in panel.curves if curve.kind == "measured"]
    styles = line_styles([float(index) for index in range(len(measured))])
    for index, curve in enumerate(measured):
        _draw_measured(axes, curve, index, styles[float(index)].color)
    for index, curve in enumerate(curve for curve in panel.curves if curve.kind != "measured"):
        label = f"theory: {curve.label}" if curve.kind == "theory" else curve.label
        axes.plot(curve.x, curve.y, color=INK, ls=LINES[1 + index % 3], lw=1.4, label=label)
    _set_scales(axes, panel)


def _draw_measured(axes: Axes, curve: Curve, index: int, color: Color) -> None:
    if len(curve.x) > _MAX_POINTS and bool(np.all(np.diff(curve.x) >= 0)):
        axes.plot(curve.x, curve.y, color=color, ls=LINES[index % len(LINES)], lw=1.3, label=curve.label, zorder=3)
        return
    bars = None
    if curve.low is not None and curve.high is not None:
        bars = np.stack([curve.y - curve.low, curve.high - curve.y])
    # Later curves have smaller open markers, so that coincident points stay visible.
    size = max(4, 10 - 3 * index) if len(curve.x) <= _MAX_POINTS else 4
    axes.errorbar(
        curve.x, curve.y, yerr=bars, ls="none", color=color, marker=MARKERS[index % len(MARKERS)], ms=size,
        mfc="none", mew=1.5, lw=1.2, capsize=3, label=curve.label, zorder=3,
    )  # fmt: skip


def _set_scales(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if not any(len(curve.x) for curve in panel.curves):
        axes.text(0.5, 0.5, "no points to show", transform=axes.transAxes, ha="center", color=INK)
        axes.set(xticks=[], yticks=[])
        return
    if panel.whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.log_x:
        log_scale(axes, "x")
    if panel.log_y:
        log_scale(axes, "y")
