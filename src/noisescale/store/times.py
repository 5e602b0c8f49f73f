"""The time that each command took on a study: one line per command in `times.jsonl`."""

from __future__ import annotations

import contextlib
import json
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
    with contextlib.suppress(OSError), (folder / "times.jsonl").open("a", encoding="utf-8") as file:
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
