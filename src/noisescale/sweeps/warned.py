"""Warnings of models and libraries, which every step of every pack may give again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# More different ones of one pack say nothing more.
_MOST = 20


@contextmanager
def hearing_warnings() -> Iterator[dict[str, str]]:
    """Keep warnings in place of showing them: the first of each line of source, by that line."""
    heard: dict[str, str] = {}

    def keep(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = " ".join(str(message).split())
        place = f"{category.__name__} of {Path(filename).name}, line {lineno}"
        if place in heard or len(heard) < _MOST:
            heard.setdefault(place, text)

    with warnings.catch_warnings():
        warnings.showwarning = keep
        yield heard
