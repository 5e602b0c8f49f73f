"""The time that each command took on a study: one line per command in `times.jsonl`."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def record_times(folder: Path, command: str, seconds: dict[str, float]) -> None:
    """Append the time of a command. Do nothing if the folder cannot be written, for example in another user's study.

    Args:
        folder: The folder of the study.
        command: The name of the command.
        seconds: Seconds by part of the command.
    """
    line = json.dumps({"command": command, **{name: round(value, 4) for name, value in seconds.items()}})
    with contextlib.suppress(OSError):
        append_line(folder / "times.jsonl", line)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, which is created if it does not exist. Nothing is written through links.

    Args:
        path: The file.
        line: The line, without its end.

    Raises:
        OSError: The file cannot be written, is a link, or has another name too.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_nlink > 1:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), str(path))
        file.write(f"{line}\n")


@contextmanager
def record_time(folder: Path, command: str) -> Iterator[None]:
    """Append the wall time of the block, if it succeeds.

    Args:
        folder: The folder of the study.
        command: The name of the command.
    """
    start = time.perf_counter()
    yield
    record_times(folder, command, {"wall": time.perf_counter() - start})
