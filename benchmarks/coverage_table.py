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


@dataclass(frozen=True)
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


def write(rows: list[Row], name: str, folder: Path, heading: str) -> None:
    """Write the table as NAME.csv and NAME.md.

    Args:
        rows: Lines of the table.
        name: Stem of the file names.
        folder: Folder for the files.
        heading: Title of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [column.name for column in fields(Row)]
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    lines = [f"# {heading}", "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = ["" if isinstance(value, float) and math.isnan(value) else str(value) for value in asdict(row).values()]
        lines.append("| " + " | ".join(cells) + " |")
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
