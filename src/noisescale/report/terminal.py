"""Printing of tables to the terminal, to a file or to a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables in the width of the terminal; if the output is not a terminal, in at least 140 columns.

    Args:
        tables: Tables.
    """
    for table in tables:
        Console(width=None if sys.stdout.isatty() else _plain_width(table)).print(table)


def _plain_width(table: Table) -> int:
    """Return the width of a table without a terminal: 140 columns, or more if numbers would be cut."""
    widths = (
        max(len(str(entry)) for entry in (column.header, *column.cells)) if column.no_wrap else column.min_width or 0
        for column in table.columns
    )
    padding = 2
    return max(140, sum(width + padding for width in widths))
