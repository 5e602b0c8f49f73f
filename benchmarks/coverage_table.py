"""Count the intervals that contain the truth, and write the table."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from noisescale.estimate import Estimate


@dataclass
class Tally:
    """Counts of the intervals of one case.

    Args:
        quantity: Quantity that the interval is for.
        case: The planted problem.
        seeds: Number of seeds in each draw.
        note: Remark for the table.
        draws: Number of draws.
        held: Draws whose interval contains the truth.
        unbounded: Draws whose interval has an infinite end.
        censored: Draws whose optimum is at an end of the ladder.
        excluded: Draws without an interval, which do not count for the coverage.
        half_widths: Half-widths of the bounded intervals.
    """

    quantity: str
    case: str
    seeds: int
    note: str = ""
    draws: int = 0
    held: int = 0
    unbounded: int = 0
    censored: int = 0
    excluded: int = 0
    half_widths: list[float] = field(default_factory=list)

    def add(self, low: float, truth: float, high: float, *, censored: bool = False) -> None:
        """Count a draw by the ends of its interval and the truth."""
        self.draws += 1
        self.censored += censored
        if math.isnan(low) or math.isnan(high):
            self.excluded += 1
            return
        self.held += low <= truth <= high
        if math.isinf(low) or math.isinf(high):
            self.unbounded += 1
        else:
            self.half_widths.append((high - low) / 2)

    def add_log(self, estimate: Estimate, truth: float, *, censored: bool = False) -> None:
        """Count a draw of a positive quantity, with its half-width in nats."""
        ends = [math.log(end) if math.isfinite(end) else end for end in (estimate.low, estimate.high)]
        self.add(ends[0], math.log(truth), ends[1], censored=censored)

    def exclude(self) -> None:
        """Count a draw that gave no interval."""
        self.draws += 1
        self.excluded += 1

    @property
    def row(self) -> Row:
        """The line of the table for this case."""
        used = max(self.draws - self.excluded, 1)
        return Row(
            self.quantity,
            self.case,
            self.seeds,
            self.draws,
            round(self.held / used, 3) if self.draws > self.excluded else math.nan,
            round(self.unbounded / used, 3),
            round(self.censored / self.draws, 3),
            round(self.excluded / self.draws, 3),
            float(f"{np.median(self.half_widths):.3g}") if self.half_widths else math.nan,
            self.note,
        )


@dataclass
class Row:
    """A line of the table, with shares instead of counts.

    Args:
        quantity: Quantity that the interval is for.
        case: The planted problem.
        seeds: Number of seeds in each draw.
        draws: Number of draws.
        coverage: Share of intervals that contain the truth.
        unbounded: Share of intervals with an infinite end.
        censored: Share of draws whose optimum is at an end of the ladder.
        excluded: Share of draws without an interval.
        half_width: Median half-width of the bounded intervals, in nats or in the unit of the quantity.
        note: Remark for the table.
        reference_coverage: Coverage of a well-specified model.
        reference_half_width: Median half-width of a well-specified model.
        baseline_coverage: Coverage of version 0.1, which counts draws without an interval as misses.
        baseline_half_width: Median half-width of version 0.1.
        baseline_unbounded: Share of draws in which version 0.1 has an open interval or none.
    """

    quantity: str
    case: str
    seeds: int
    draws: int
    coverage: float
    unbounded: float
    censored: float
    excluded: float
    half_width: float
    note: str
    reference_coverage: float = math.nan
    reference_half_width: float = math.nan
    baseline_coverage: float = math.nan
    baseline_half_width: float = math.nan
    baseline_unbounded: float = math.nan


def write(sections: dict[str, list[Row]], name: str, folder: Path, heading: str, lead: str = "") -> None:
    """Write all rows as NAME.csv, and NAME.md with a table for each section.

    Args:
        sections: Lines of the tables, by the title of their section; an empty title for a page without sections.
        name: Stem of the file names.
        folder: Folder for the files.
        heading: Title of the page.
        lead: Paragraph below the title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [column.name for column in fields(Row)]
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(asdict(row) for rows in sections.values() for row in rows)
    lines = [f"# {heading}", ""] + ([lead, ""] if lead else [])
    for title, rows in sections.items():
        lines += ([f"## {title}", ""] if title else []) + _table([asdict(row) for row in rows]) + [""]
    (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _table(rows: list[dict[str, object]]) -> list[str]:
    """Return a table without the columns that are empty in all rows."""
    columns = [name for name in rows[0] if name == "note" or any(_text(row[name]) for row in rows)] if rows else []
    columns.sort(key=lambda name: name == "note")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(_text(row[name]) for name in columns) + " |" for row in rows]


def _text(value: object) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)
