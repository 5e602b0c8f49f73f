"""The lock that gives a folder to one driver (a process that runs a sweep), and the mark of an unfinished sweep."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from noisescale.errors import BadInput, printable

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = "lock"
# Marks a sweep that has started but not finished. The plan cannot show this, because extensions are planned while the
# sweep runs.
UNFINISHED = "unfinished"

# Error codes of a full disk. Every other error code of the system is a fault of the path.
FULL = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name))

# Error codes returned by file systems that do not support locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

# Seconds between attempts to take the lock. The command `status` holds the lock for an instant, so one failed attempt
# does not show that a sweep is running.
_PAUSES = (0.1, 0.2, 0.4)

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_MOST_SHOWN = 200


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Hold the folder for one driver.

    Args:
        folder: The folder of the sweep.

    Raises:
        BadInput: Another process drives this folder (the message names it), the folder cannot be written, its lock is a
            link or a device, or the system or its file system has no locks.
        OSError: The disk is full.
    """
    lock = _lock(folder)
    _acquire(lock, folder)
    started = time.strftime("%Y-%m-%d %H:%M:%S %z")
    _write_owner(folder, f"process {os.getpid()} on {platform.node()} since {started}")
    try:
        yield
    finally:
        _write_owner(folder, "")
        lock.release()


def check_system() -> None:
    """Check that this system has the locks that keep two sweeps out of one folder.

    Raises:
        BadInput: It has none.
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:
        required = "Linux or macOS, for commands that train into a folder; `measure`, `fit` and `report` need neither"
        raise BadInput("this system", required, f"{sys.platform}, without the locks of Python's fcntl") from None


def is_driven(folder: Path) -> bool:
    """Return whether a sweep is running in the folder; False where this cannot be found out."""
    if not (folder / LOCK).exists():
        return False
    try:
        lock = _lock(folder)
        lock.acquire(blocking=False)
    except TimeoutError:  # filelock's class for a lock that another process holds
        return True
    except (BadInput, OSError):
        return False
    lock.release()
    return False


def _lock(folder: Path) -> BaseFileLock:
    """Return the lock of a folder, after checking that locking it changes no other file."""
    check_system()
    # Imported here, because it warns on systems without these locks.
    from filelock import FileLock

    path = folder / LOCK
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        entry = path.lstat()
        if not stat.S_ISREG(entry.st_mode) or entry.st_nlink > 1:  # taking the lock empties the file
            raise BadInput(str(path), "a file, as a sweep wrote it; remove it", "a link or a device")
    return FileLock(path, is_singleton=False, fallback_to_soft=False)


def _acquire(lock: BaseFileLock, folder: Path) -> None:
    for pause in (*_PAUSES, None):
        try:
            lock.acquire(blocking=False)
            return
        except TimeoutError:  # filelock's class for a lock that another process holds
            if pause is None:
                running = f"a sweep that is running there{_owner(folder)}"
                raise BadInput(str(folder), "one driver per folder", running) from None
            time.sleep(pause)
        except OSError as error:
            if error.errno in FULL:
                raise
            if error.errno in _NO_LOCKS:
                required = "a folder of a file system with locks (flock), so that two sweeps cannot write to it"
                raise BadInput(str(folder), required, error.strerror) from None
            raise BadInput(str(folder), "a folder that can be written", error.strerror) from None


def _write_owner(folder: Path, text: str) -> None:
    """Write the holder's name to the lock file. Only people read it, so an error of the disk is ignored."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / LOCK, os.O_WRONLY | os.O_TRUNC | _NO_LINK)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def _owner(folder: Path) -> str:
    """Return the holder's name, if the file holds one short line."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as file:
            text = file.read(_MOST_SHOWN)
    except (OSError, ValueError):
        return ""
    return f": {printable(text)}" if text.isprintable() and text else ""
