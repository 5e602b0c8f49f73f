"""A table as text, which becomes a table of a terminal or of the page."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import OverflowMethod
from rich.table import Table
from rich.text import Text

# Entries longer than this are sentences, which may wrap. The status may also wrap. Numbers may not.
_WRAP_LENGTH = 44
STATUS, _LONGEST_WORD = "status", len("stability-limited")


@dataclass(frozen=True)
class TableData:
    """A table as text.

    Args:
        title: Title above the table.
        columns: Headings of the columns.
        rows: Entries of each row, one for each column.
        notes: Sentences below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def as_rich(self) -> Table:
        """Return the table for a terminal. Numbers stay on one line. Sentences and notes may wrap."""
        table = Table(
            title=Text(self.title, style="bold"), caption=Text("\n".join(self.notes)), box=box.SIMPLE_HEAD,
            title_justify="left", caption_justify="left", padding=(0, 1), collapse_padding=True, pad_edge=False,
        )  # fmt: skip
        for index, column in enumerate(self.columns):
            widest = max((len(row[index]) for row in self.rows), default=0)
            fits = widest <= _WRAP_LENGTH and column != STATUS
            overflow: OverflowMethod = "fold"
            table.add_column(Text(column), no_wrap=fits, overflow=overflow, min_width=None if fits else _LONGEST_WORD)
        for row in self.rows:
            table.add_row(*(Text(entry) for entry in row))
        return table
