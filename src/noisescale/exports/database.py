"""A database file that libraries know by a URL, which not every path can be part of."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sqlite_at(path: Path) -> Iterator[str]:
    """The URL of a new SQLite file that lies at a path once it is written.

    It is written elsewhere: in a URL a `?`, a `#` or a `%20` of the path would mean something.
    """
    with tempfile.TemporaryDirectory(prefix="noisescale-") as folder:
        file = Path(folder) / "export.db"
        yield f"sqlite:///{file}"
        shutil.copyfile(file, path)
