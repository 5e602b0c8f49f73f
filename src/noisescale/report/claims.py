"""Claims and verdicts, for people: tables for the terminal and a figure a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from noisescale.claims import Evidence, Panel, Verdict
from noisescale.report.numbers import number
from noisescale.report.style import INK, LINES, MARKERS, legend_below, log_scale, looks, new_figure, pictures, save
from noisescale.report.tables import TableData

# Curves of at most so many points are shown as points.
_POINTS = 30


def claims_tables(listed: Sequence[dict[str, Any]]) -> list[Table]:
    """One table a paper."""
    found = []
    for paper in dict.fromkeys(row["paper"] for row in listed):
        rows = tuple(
            (row["id"], row["statement"], row["statistic"], row["criterion"], row["source"],
             ", ".join(row["scales"]) or "not yet")
            for row in listed
            if row["paper"] == paper
        )  # fmt: skip
        columns = ("id", "statement", "statistic", "criterion", "known as", "runs at")
        found.append(TableData(paper, columns, rows).as_rich())
    return found


def verdict_tables(verdicts: Sequence[Verdict]) -> list[Table]:
    """Every statistic of every verdict, in one table."""
    rows, notes = [], ["Brackets: 95 % intervals over seeds."]
    for verdict in verdicts:
        for place, one in enumerate(verdict.statistics):
            first = (verdict.id, verdict.verdict) if not place else ("", "")
            value = f"{number(one['value'], 4)} [{number(one['low'], 4)}, {number(one['high'], 4)}]"
            rows.append((*first, one["name"], value, one["criterion"], one["outcome"]))
        if not verdict.statistics:
            rows.append((verdict.id, verdict.verdict, "–", "–", "–", "–"))
        if verdict.note:
            notes.append(f"{verdict.id}: {verdict.note}")
    columns = ("id", "verdict", "statistic", "value", "criterion", "outcome")
    return [TableData("Verdicts", columns, tuple(rows), tuple(notes)).as_rich()]


def draw_verdicts(found: Sequence[tuple[Verdict, Evidence | None]], folder: Path) -> list[Path]:
    """A figure of each verdict's panels, as `ID.svg` and `ID.png` in the folder; those that were not run have none."""
    drawn = []
    with pictures():
        for verdict, evidence in found:
            if evidence is not None and evidence.panels:
                save(claim_figure(verdict, evidence.panels[0]), folder, verdict.id)
                drawn.append(folder / f"{verdict.id}.svg")
    return drawn


def claim_figure(verdict: Verdict, panel: Panel) -> Figure:
    """What was measured as points, theory as lines of ink."""
    figure = new_figure(4.2)
    axes = figure.subplots()
    measured = [curve for curve in panel.curves if not curve.theory]
    shades = looks([float(place) for place in range(len(measured))])
    for place, curve in enumerate(measured):
        color = shades[float(place)].color
        if len(curve.x) > _POINTS:
            axes.plot(curve.x, curve.y, color=color, lw=1.3, label=curve.label, zorder=3)
            continue
        ends = None
        if curve.low is not None and curve.high is not None:
            ends = np.stack([curve.y - curve.low, curve.high - curve.y])
        # Points that lie on each other stay visible: open ones around smaller ones.
        axes.errorbar(
            curve.x, curve.y, yerr=ends, ls="none", color=color, marker=MARKERS[place % len(MARKERS)],
            ms=max(4, 10 - 3 * place), mfc="none", mew=1.5, lw=1.2, capsize=3, label=curve.label, zorder=3,
        )  # fmt: skip
    for place, curve in enumerate(curve for curve in panel.curves if curve.theory):
        axes.plot(curve.x, curve.y, color=INK, ls=LINES[1 + place % 3], lw=1.4, label=f"theory: {curve.label}")
    _scales(axes, panel)
    axes.set_title(f"{verdict.id}: {verdict.verdict}")
    legend_below(figure, axes.get_legend_handles_labels()[0], columns=2)
    return figure


def _scales(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    for which, wanted in (("x", panel.log_x), ("y", panel.log_y)):
        if wanted:
            log_scale(axes, which)
