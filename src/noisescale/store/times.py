"""Where the time of a study's commands went: one line a command in `times.jsonl`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def record_times(folder: Path, command: str, seconds: dict[str, float]) -> None:
    """Append the seconds of a command's parts; a folder that cannot be written (someone else's study) is left alone."""
    line = json.dumps({"command": command, **{name: round(value, 4) for name, value in seconds.items()}})
    with contextlib.suppress(OSError), (folder / "times.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@contextmanager
def record_time(folder: Path, command: str) -> Iterator[None]:
    """Append the wall time of the block, where it succeeds."""
    began = time.perf_counter()
    yield
    record_times(folder, command, {"wall": time.perf_counter() - began})
