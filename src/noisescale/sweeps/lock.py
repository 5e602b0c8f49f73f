"""The lock that gives a folder to one driver (a process that runs a sweep), and the mark of an unfinished sweep."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from noisescale.errors import BadInput

LOCK = "lock"
# Marks a sweep that has started but not finished. The plan cannot show this, because extensions are planned while the
# sweep runs.
UNFINISHED = "unfinished"

# Error codes of a full disk. Every other error code of the system is a fault of the path.
FULL = (errno.ENOSPC, errno.EDQUOT)

# Error codes returned by file systems that do not support locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

# Seconds between attempts to take the lock. The command `status` holds the lock for an instant, so one failed attempt
# does not show that a sweep is running.
_PAUSES = (0.1, 0.2, 0.4)


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Hold the folder for one driver.

    Args:
        folder: The folder of the sweep.

    Raises:
        BadInput: Another process drives this folder (the message names it), or the folder cannot be written.
        OSError: The disk is full.
    """
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        if error.errno in FULL:
            raise
        raise BadInput(str(folder), "a folder that can be written", error.strerror) from None
    with file:
        _acquire(file, folder)
        started = time.strftime("%Y-%m-%d %H:%M:%S %z")
        _write_owner(file, f"process {os.getpid()} on {platform.node()} since {started}")
        try:
            yield
        finally:
            _write_owner(file, "")


def is_driven(folder: Path) -> bool:
    """Return whether a sweep is running in the folder; False on file systems without locks."""
    try:
        with (folder / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _acquire(file: TextIO, folder: Path) -> None:
    for pause in (*_PAUSES, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if pause is None:
                running = f"a sweep that is running there{_owner(file)}"
                raise BadInput(str(folder), "one driver per folder", running) from None
            time.sleep(pause)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            required = "a folder of a file system with locks (flock), so that two sweeps cannot write to it"
            raise BadInput(str(folder), required, error.strerror) from None


def _write_owner(file: TextIO, text: str) -> None:
    """Write the holder's name to the lock file. Only people read it, so an error of the disk is ignored."""
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), text.encode())


def _owner(file: TextIO) -> str:
    """Return the holder's name, if the file holds one short printable line."""
    try:
        file.seek(0)
        text = file.read(200)
    except (OSError, ValueError):
        return ""
    return f": {text}" if text.isprintable() and text else ""
