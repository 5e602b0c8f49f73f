"""Prints tables in a terminal of any width. Numbers are never cut: intervals move to a line of their own, or the table
is turned.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

# Columns of an output that is not a terminal. A table that needs more gets more, because nothing folds a file.
_PLAIN_WIDTH = 140
# An entry folds before its interval, or before what stands in parentheses.
_FOLD = re.compile(r" (?=[\[(])")


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables in the width of the terminal; if the output is not a terminal, in at least 140 columns.

    Args:
        tables: Tables.
    """
    for table in tables:
        if sys.stdout.isatty():
            console = Console()
            console.print(fitted(table, console.width))
        else:
            Console(width=max(_PLAIN_WIDTH, _total([_whole(column) for column in table.columns]))).print(table)


def fitted(table: Table, width: int) -> Table:
    """Return a table whose numbers fit into a width.

    Args:
        table: The table. A column with `no_wrap` holds numbers. Other columns hold sentences, which may wrap.
        width: Number of columns of the terminal.

    Returns:
        The table as it is, with folded entries, or turned: one line for each entry of each row.
    """
    whole, folded = [_whole(column) for column in table.columns], [_folded(column) for column in table.columns]
    if _total(whole) <= width:
        return table
    if _total(folded) > width:
        return _turned(table)
    left, widths = width - _total(folded), list(folded)
    # The columns that need the least further width to stay on one line come first.
    for index in sorted(range(len(widths)), key=lambda k: whole[k] - folded[k]):
        further = whole[index] - folded[index]
        if further <= left or not table.columns[index].no_wrap:
            widths[index], left = widths[index] + min(further, left), left - min(further, left)
    return _with_widths(table, widths, whole)


def _with_widths(table: Table, widths: Sequence[int], whole: Sequence[int]) -> Table:
    narrower = _like(table)
    columns = list(zip(table.columns, widths, whole, strict=True))
    for column, chosen, _ in columns:
        narrower.add_column(column.header, width=chosen, overflow="fold")
    entries = [
        [Text(_FOLD.sub("\n", str(cell))) if column.no_wrap and chosen < needed else cell for cell in column.cells]
        for column, chosen, needed in columns
    ]
    for row in zip(*entries, strict=True):
        narrower.add_row(*row)
    return narrower


def _turned(table: Table) -> Table:
    turned = _like(table, box=box.SIMPLE, show_header=False)
    turned.add_column(overflow="fold", style="bold")
    turned.add_column(overflow="fold")
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    for number, row in enumerate(rows):
        for column, entry in zip(table.columns, row, strict=True):
            turned.add_row(column.header, entry)
        if number + 1 < len(rows):
            turned.add_row("", "")
    return turned


def _like(table: Table, box: box.Box = box.SIMPLE_HEAD, show_header: bool = True) -> Table:
    return Table(
        title=table.title, caption=table.caption, box=box, show_header=show_header, title_justify="left",
        caption_justify="left", padding=(0, 1), collapse_padding=True, pad_edge=False,
    )  # fmt: skip


def _whole(column: Column) -> int:
    """Return the width that a column needs without folding. A column of sentences wraps at once."""
    if not column.no_wrap:
        return _folded(column)
    return max(cell_len(str(entry)) for entry in (column.header, *column.cells))


def _folded(column: Column) -> int:
    words = [cell_len(word) for word in str(column.header).split()]
    for cell in column.cells:
        parts = _FOLD.split(str(cell)) if column.no_wrap else str(cell).split()
        words += map(cell_len, parts)
    return max(*words, column.min_width or 0, 1)


def _total(widths: Sequence[int]) -> int:
    """Return the width of a table with columns of these widths: two characters between columns, and the edges."""
    return sum(widths) + 2 * len(widths) + 2
