"""SQLite files for libraries that address a database by URL. A URL cannot hold every path."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sqlite_at(path: Path) -> Iterator[str]:
    """Give the URL of a new SQLite file, and move the file to its path at the end.

    The file is written elsewhere, because `?`, `#` and `%20` have a meaning in a URL.

    Args:
        path: The path of the file at the end.

    Yields:
        The URL.
    """
    with tempfile.TemporaryDirectory(prefix="noisescale-") as folder:
        file = Path(folder) / "export.db"
        yield f"sqlite:///{file}"
        shutil.copyfile(file, path)
