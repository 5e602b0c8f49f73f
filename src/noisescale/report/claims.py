"""Claims and verdicts for people: tables for the terminal, and a page for each paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from noisescale.claims import CLAIMS, PAPERS, SEEDS_APART, Evidence, Verdict
from noisescale.report.figures.claim import claim_figure
from noisescale.report.numbers import number, seconds
from noisescale.report.style import pictures, save
from noisescale.report.table_data import TableData
from noisescale.report.templates import template
from noisescale.store import write_atomically

_COLUMNS = ("statistic", "value", "criterion", "outcome")
_CONFIRMING = " The criteria were committed before these runs, whose seeds were not used in development."


def claims_tables(listed: Sequence[dict[str, Any]]) -> list[Table]:
    """Make one table of claims for each paper.

    Args:
        listed: Claims, as `listed_claims` returns them.

    Returns:
        One table per paper.
    """
    tables = []
    for paper in dict.fromkeys(claim["paper"] for claim in listed):
        rows = tuple(
            (claim["id"], claim["statement"], claim["statistic"], claim["criterion"], claim["source"],
             ", ".join(claim["scales"]) or "not yet")
            for claim in listed
            if claim["paper"] == paper
        )  # fmt: skip
        columns = ("id", "statement", "statistic", "criterion", "source", "scales")
        tables.append(TableData(paper, columns, rows).as_rich())
    return tables


def verdict_tables(verdicts: Sequence[Verdict]) -> list[Table]:
    """Make one table of the statistics of all verdicts.

    Args:
        verdicts: Verdicts to show.

    Returns:
        A list with the table.
    """
    rows, notes = [], ["Brackets show 95% intervals."]
    for verdict in verdicts:
        for index, row in enumerate(_rows(verdict.statistics)):
            id_and_verdict = (verdict.id, verdict.verdict) if not index else ("", "")
            rows.append((*id_and_verdict, *row))
        if not verdict.statistics:
            rows.append((verdict.id, verdict.verdict, "–", "–", "–", "–"))
        if verdict.note:
            notes.append(f"{verdict.id}: {verdict.note}")
    columns = ("id", "verdict", *_COLUMNS)
    return [TableData(f"Verdicts, {_sets(verdicts)}", columns, tuple(rows), tuple(notes)).as_rich()]


def write_verdict_pages(verified: Sequence[tuple[Verdict, Evidence | None]], folder: Path) -> list[Path]:
    """Write the figure of each verdict as `ID.svg` and `ID.png`, and a page for each paper, `PAPER.html`.

    A page shows the verdicts of this call only. Claims without runs have no figure.

    Args:
        verified: Verdicts with their evidence, as `verify` returns them.
        folder: Folder for the figures and pages.

    Returns:
        The paths of the pages.
    """
    svgs: dict[str, str] = {}
    with pictures():
        for verdict, evidence in verified:
            if evidence is not None and evidence.panels:
                svgs[verdict.id] = save(claim_figure(verdict, evidence.panels), folder, verdict.id)
    pages = []
    for paper in dict.fromkeys(verdict.paper for verdict, _ in verified):
        verdicts = [verdict for verdict, _ in verified if verdict.paper == paper]
        page = folder / f"{paper}.html"
        text = _page(paper, verdicts, svgs).encode("utf-8")
        write_atomically(page, lambda file, text=text: file.write(text))  # type: ignore[misc]
        pages.append(page)
    return pages


def row_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each statistic of a claim. If several have the same name, the convention is added to it.

    Args:
        entries: Statistics, as a verdict stores them.

    Returns:
        One name per statistic.
    """
    counts = Counter(entry["name"] for entry in entries)
    return [
        f"{entry['name']}, {entry['convention']}" if counts[entry["name"]] > 1 else entry["name"] for entry in entries
    ]


def _rows(entries: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]] = ()) -> list[tuple[str, ...]]:
    """Return one row per entry. The name of a row is unique among `entries` and `others`."""
    return [
        (name, f"{number(entry['value'], 4)} [{number(entry['low'], 4)}, {number(entry['high'], 4)}]",
         entry["criterion"], entry["outcome"])
        for name, entry in zip(row_names([*entries, *others]), entries, strict=False)
    ]  # fmt: skip


def _page(paper: str, verdicts: Sequence[Verdict], svgs: Mapping[str, str]) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    rows = tuple((verdict.id, verdict.statement, verdict.verdict) for verdict in verdicts)
    # Repeat all claims of a paper, because Holm's levels use the p-values of all claims in the call.
    all_claims = {verdict.id for verdict in verdicts} == {id for id, claim in CLAIMS.items() if claim.paper == paper}
    names = paper if all_claims else " ".join(verdict.id for verdict in verdicts)
    return template("claims.html.jinja").render(
        title=PAPERS.get(paper, paper),
        subtitle=f"{_sets(verdicts)}." + (_CONFIRMING if all(map(_confirms, verdicts)) else ""),
        result=[", ".join(f"{count} {word}" for word, count in counts.items()) + "."],
        overview=TableData("Claims", ("id", "statement", "verdict"), rows),
        claims=[_section(verdict, svgs.get(verdict.id, ""), names) for verdict in verdicts if verdict.statistics],
    )


def _sets(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(sorted({f"{verdict.scale} scale, seeds from {verdict.first_seed}" for verdict in verdicts}))


def _confirms(verdict: Verdict) -> bool:
    """Return whether a run can confirm a claim: above smoke scale, on new seeds, with committed code."""
    committed = len(verdict.criterion_commit.split()) == 1
    return verdict.scale != "smoke" and verdict.first_seed > 0 and committed


def _section(verdict: Verdict, svg: str, names: str) -> dict[str, Any]:
    facts = {
        "Criterion": f"{verdict.criterion} ({verdict.criterion_commit})",
        "Setting": verdict.setting,
        "Differences from the paper": verdict.differs,
        "Disputed": CLAIMS[verdict.id].disputed,
        "Seeds and runs": f"{verdict.seeds:,} seeds from {verdict.first_seed}, {verdict.runs:,} runs, "
        f"{seconds(verdict.seconds)}",
        "Trained on": verdict.device,
        "Further numbers": "; ".join(f"{name}: {number(value, 4)}" for name, value in verdict.reported.items()),
        "Note": verdict.note,
        "How we know the statement": verdict.source,
        "Repeat": f"noisescale verify {names} --scale {verdict.scale} --out DIR --seed-set "
        f"{verdict.first_seed // SEEDS_APART}",
        "Versions": verdict.versions,
    }
    tables = {
        name: TableData(title, _COLUMNS, tuple(_rows(entries, others))) if entries else None
        for name, title, entries, others in (
            ("statistics", "Statistics of the verdict", verdict.statistics, verdict.beside),
            ("beside", "Further statistics", verdict.beside, verdict.statistics),
        )
    }
    return {
        "id": verdict.id, "verdict": verdict.verdict, "statement": verdict.statement, "svg": svg, **tables,
        "facts": [(name, value) for name, value in facts.items() if value],
    }  # fmt: skip
