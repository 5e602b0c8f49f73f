"""SQLite files for libraries that open a database by its URL, although not every path can be part of a URL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sqlite_at(path: Path) -> Iterator[str]:
    """Yield the URL of a new SQLite file, and copy the file to its final path at the end of the `with` block.

    The file is written to a temporary folder, because `?`, `#` and `%20` in a path have a special meaning in a URL.

    Args:
        path: The final path of the file.

    Yields:
        The URL.
    """
    with tempfile.TemporaryDirectory(prefix="noisescale-") as folder:
        file = Path(folder) / "export.db"
        yield f"sqlite:///{file}"
        shutil.copyfile(file, path)
