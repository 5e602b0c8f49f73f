"""Claims and verdicts, for people: tables for the terminal, a figure a verdict, a page a paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from noisescale.claims import CLAIMS, PAPERS, SEEDS_APART, Evidence, Panel, Verdict
from noisescale.report.numbers import number, seconds
from noisescale.report.style import INK, LINES, MARKERS, legend_below, log_scale, looks, new_figure, pictures, save
from noisescale.report.tables import TableData
from noisescale.report.templates import template
from noisescale.store import write_atomically

# Curves of at most so many points are shown as points, and so are points in no order.
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
        for place, one in enumerate(_rows(verdict.statistics)):
            first = (verdict.id, verdict.verdict) if not place else ("", "")
            rows.append((*first, *one))
        if not verdict.statistics:
            rows.append((verdict.id, verdict.verdict, "–", "–", "–", "–"))
        if verdict.note:
            notes.append(f"{verdict.id}: {verdict.note}")
    return [
        TableData(f"Verdicts, {_sets(verdicts)}", ("id", "verdict", *_COLUMNS), tuple(rows), tuple(notes)).as_rich()
    ]


def write_verdicts(found: Sequence[tuple[Verdict, Evidence | None]], folder: Path) -> list[Path]:
    """The figure of each verdict as `ID.svg` and `ID.png`, and a page of each paper, `PAPER.html`, in the folder.

    A page holds the verdicts of this call; those that were not run have no figure.

    Returns:
        The pages.
    """
    svgs: dict[str, str] = {}
    with pictures():
        for verdict, evidence in found:
            if evidence is not None and evidence.panels:
                svgs[verdict.id] = save(claim_figure(verdict, evidence.panels), folder, verdict.id)
    pages = []
    for paper in dict.fromkeys(verdict.paper for verdict, _ in found):
        own = [verdict for verdict, _ in found if verdict.paper == paper]
        page = folder / f"{paper}.html"
        text = _page(paper, own, svgs).encode("utf-8")
        write_atomically(page, lambda file, text=text: file.write(text))  # type: ignore[misc]
        pages.append(page)
    return pages


_COLUMNS = ("statistic", "value", "criterion", "outcome")


def row_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each of a claim's statistics, with its convention where another has the same name."""
    counts = Counter(one["name"] for one in entries)
    return [f"{one['name']}, {one['convention']}" if counts[one["name"]] > 1 else one["name"] for one in entries]


def figure_title(id: str, verdict: str, scale: str, seeds: int, first_seed: int) -> str:
    """What stands above a verdict's figure: it tells which run the figure shows."""
    return f"{id}: {verdict} ({scale} scale, {seeds:,} seeds from {first_seed})"


def _rows(entries: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]] = ()) -> list[tuple[str, ...]]:
    """A row an entry; names are told apart from each other and from those of other entries beside."""
    return [
        (name, f"{number(one['value'], 4)} [{number(one['low'], 4)}, {number(one['high'], 4)}]", one["criterion"],
         one["outcome"])
        for name, one in zip(row_names([*entries, *beside]), entries, strict=False)
    ]  # fmt: skip


def _page(paper: str, verdicts: Sequence[Verdict], svgs: Mapping[str, str]) -> str:
    ran = [verdict for verdict in verdicts if verdict.statistics]
    counts = {word: sum(verdict.verdict == word for verdict in verdicts) for word in dict.fromkeys(
        verdict.verdict for verdict in verdicts)}  # fmt: skip
    rows = tuple((verdict.id, verdict.statement, verdict.verdict) for verdict in verdicts)
    # The levels are Holm's over the claims that were verified together: one alone can have another verdict.
    whole = {verdict.id for verdict in verdicts} == {id for id, claim in CLAIMS.items() if claim.paper == paper}
    together = paper if whole else " ".join(verdict.id for verdict in verdicts)
    return template("claims.html.jinja").render(
        title=PAPERS[paper],
        subtitle=_sets(verdicts) + "." + (_BEFORE if all(map(_confirms, verdicts)) else ""),
        result=[", ".join(f"{count} {word}" for word, count in counts.items()) + "."],
        overview=TableData("Claims", ("id", "statement", "verdict"), rows),
        claims=[_section(verdict, svgs.get(verdict.id, ""), together) for verdict in ran],
    )


def _sets(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(sorted({f"{verdict.scale} scale, seeds from {verdict.first_seed}" for verdict in verdicts}))


_BEFORE = " Criteria were committed before these runs, on seeds that development does not use."


def _confirms(verdict: Verdict) -> bool:
    """Whether a run can confirm: not planted or tiny, not on the seeds of development, not of changed code."""
    clean = len(verdict.criterion_commit.split()) == 1
    return verdict.scale != "smoke" and verdict.first_seed > 0 and clean


def _section(verdict: Verdict, svg: str, together: str) -> dict[str, Any]:
    facts = {
        "Criterion": f"{verdict.criterion} ({verdict.criterion_commit})",
        "Setting": verdict.setting,
        "Differs from the paper": verdict.differs,
        "Disputed": CLAIMS[verdict.id].disputed,
        "Seeds and runs": f"{verdict.seeds:,} seeds from {verdict.first_seed}, {verdict.runs:,} runs, "
        f"{seconds(verdict.seconds)}",
        "Trained on": verdict.device,
        "Beside": "; ".join(f"{name}: {number(value, 4)}" for name, value in verdict.reported.items()),
        "Note": verdict.note,
        "How the statement is known to us": verdict.source,
        "Repeat": f"noisescale verify {together} --scale {verdict.scale} --out DIR --seed-set "
        f"{verdict.first_seed // SEEDS_APART}",
        "Versions": verdict.versions,
    }
    tables = {
        name: TableData(title, _COLUMNS, tuple(_rows(own, other))) if own else None
        for name, title, own, other in (
            ("statistics", "What decides", verdict.statistics, verdict.beside),
            ("beside", "Beside it, deciding nothing", verdict.beside, verdict.statistics),
        )
    }
    return {
        "id": verdict.id, "verdict": verdict.verdict, "statement": verdict.statement, "svg": svg, **tables,
        "facts": [(name, value) for name, value in facts.items() if value],
    }  # fmt: skip


def claim_figure(verdict: Verdict, panels: Sequence[Panel]) -> Figure:
    """What was measured as points, theory as lines of ink; a panel each, one below the other."""
    figure = new_figure(4.2 * len(panels))
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False).flat, panels, strict=True):
        _draw(axes, panel)
        if len(panels) > 1:
            axes.legend(*axes.get_legend_handles_labels(), loc="best")
    about = (verdict.id, verdict.verdict, verdict.scale, verdict.seeds, verdict.first_seed)
    figure.axes[0].set_title(figure_title(*about))
    if len(panels) == 1:
        legend_below(figure, figure.axes[0].get_legend_handles_labels()[0], columns=2)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    measured = [curve for curve in panel.curves if curve.kind == "measured"]
    shades = looks([float(place) for place in range(len(measured))])
    for place, curve in enumerate(measured):
        color = shades[float(place)].color
        if len(curve.x) > _POINTS and bool(np.all(np.diff(curve.x) >= 0)):
            line = LINES[place % len(LINES)]
            axes.plot(curve.x, curve.y, color=color, ls=line, lw=1.3, label=curve.label, zorder=3)
            continue
        ends = None
        if curve.low is not None and curve.high is not None:
            ends = np.stack([curve.y - curve.low, curve.high - curve.y])
        # Points that lie on each other stay visible: open ones around smaller ones.
        size = max(4, 10 - 3 * place) if len(curve.x) <= _POINTS else 4
        axes.errorbar(
            curve.x, curve.y, yerr=ends, ls="none", color=color, marker=MARKERS[place % len(MARKERS)],
            ms=size, mfc="none", mew=1.5, lw=1.2, capsize=3, label=curve.label, zorder=3,
        )  # fmt: skip
    for place, curve in enumerate(curve for curve in panel.curves if curve.kind != "measured"):
        label = f"theory: {curve.label}" if curve.kind == "theory" else curve.label
        axes.plot(curve.x, curve.y, color=INK, ls=LINES[1 + place % 3], lw=1.4, label=label)
    _scales(axes, panel)


def _scales(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if not any(len(curve.x) for curve in panel.curves):  # nothing to scale
        axes.text(0.5, 0.5, "nothing was found to show", transform=axes.transAxes, ha="center", color=INK)
        axes.set(xticks=[], yticks=[])
        return
    if panel.whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for which, wanted in (("x", panel.log_x), ("y", panel.log_y)):
        if wanted:
            log_scale(axes, which)
