"""Collected warnings from models and libraries, which training may repeat at every step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from noisescale.errors import printable

# More distinct warnings per pack than this add no information.
MAX_WARNINGS = 20


@contextmanager
def collect_warnings() -> Iterator[dict[str, str]]:
    """Collect warnings instead of printing them, keeping the first from each source line.

    Yields:
        A dictionary from the category and source line of a warning to its text. New warnings are added as they come.
    """
    collected: dict[str, str] = {}

    def collect(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = printable(" ".join(str(message).split()))
        place = printable(f"{category.__name__} of {Path(filename).name}, line {lineno}")
        if place in collected or len(collected) < MAX_WARNINGS:
            collected.setdefault(place, text)

    with warnings.catch_warnings():
        warnings.showwarning = collect
        yield collected
