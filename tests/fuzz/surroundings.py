"""A watch on the files around a study's folder: no command changes them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

Entry = tuple[object, ...]


@contextmanager
def unchanged(folder: Path, left_out: Collection[str]) -> Iterator[None]:
    """Fail if the block changes, creates or removes anything in a folder.

    Args:
        folder: The folder.
        left_out: Names in it that the block may change.
    """
    before = snapshot(folder, left_out)
    yield
    after = snapshot(folder, left_out)
    changed = sorted(path for path in {**before, **after} if before.get(path) != after.get(path))
    assert not changed, f"a command changed {changed}"


def snapshot(folder: Path, left_out: Collection[str] = ()) -> dict[str, Entry]:
    """Return the kind, size, time of modification and contents of everything in a folder, by path.

    Args:
        folder: The folder. Links in it are not followed.
        left_out: Names in it that are left out.
    """
    entries: dict[str, Entry] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in left_out:
            continue
        path, facts = Path(entry.path), entry.stat(follow_symlinks=False)
        common = (stat.S_IFMT(facts.st_mode), facts.st_mtime_ns)
        if entry.is_symlink():
            entries[entry.path] = (*common, os.readlink(path))
        elif stat.S_ISREG(facts.st_mode):
            entries[entry.path] = (*common, facts.st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        else:
            entries[entry.path] = common
        if entry.is_dir(follow_symlinks=False):
            entries |= snapshot(path)
    return entries
