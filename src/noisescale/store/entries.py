"""Checks of the entries of a study's folder, which may come from somebody else.

A study is read through links, which some stores of data use. Nothing is written through them, because a link may lead
to any file. A named pipe or a device is refused, because reading it may never end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from noisescale.errors import BadInput

# Folders within this depth hold the files that commands read and write.
_DEPTH = 2
# Folders with files of other tools, which the package only adds to in new folders.
_OF_OTHERS = ("slurm", "damaged")
# Files that are changed in place. All others are replaced as a whole.
_APPENDED = ("lock", "log.txt", "times.jsonl")


def check_readable(folder: Path) -> None:
    """Check that every entry is a file or a folder, possibly behind a link.

    Args:
        folder: The folder of a study. It may not exist yet.

    Raises:
        BadInput: An entry is something else.
    """
    for entry in _entries(folder):
        # The listing of a folder tells files from folders, and asking for each again is slow on network file systems.
        if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
            continue
        try:
            mode = entry.stat().st_mode
        except OSError:  # a dangling link; whoever needs the file reports it
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise BadInput(entry.path, "a file or a folder", "a pipe or a device")


def check_writable(folder: Path) -> None:
    """Check that nothing in a folder leads out of it. The folder itself may be a link.

    Args:
        folder: The folder of a study, or a part of it. It may not exist yet.

    Raises:
        BadInput: An entry is a link, or neither a file nor a folder.
    """
    for entry in _entries(folder):
        if entry.is_symlink():
            required = "a file or a folder of its own, because nothing is written through links"
            raise BadInput(entry.path, required, f"a link to {os.readlink(entry.path)}")
        if entry.name in _APPENDED and entry.stat(follow_symlinks=False).st_nlink > 1:
            required = "a file of its own, because the sweep writes to it"
            raise BadInput(entry.path, required, "a file with another name too")
    check_readable(folder)


def _entries(folder: Path, depth: int = _DEPTH) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # not a folder, or not readable; whoever needs it reports this
        return
    for entry in entries:
        yield entry
        if depth > 1 and entry.is_dir(follow_symlinks=False) and entry.name not in _OF_OTHERS:
            yield from _entries(Path(entry.path), depth - 1)
