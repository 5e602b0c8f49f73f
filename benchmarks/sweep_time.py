"""Read the times of the parts of a sweep from the record in its folder."""

from __future__ import annotations

import json
from pathlib import Path


def sweep_time(study: Path) -> dict[str, float]:
    """Return the seconds of each part, summed over all commands on the folder.

    Args:
        study: Folder of the sweep, with its `times.jsonl`.
    """
    seconds: dict[str, float] = {}
    for line in (study / "times.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        command = record.pop("command")
        for part, value in record.items():
            name = (
                part if command == "sweep" and part != "wall" else command if part == "wall" else f"{command}: {part}"
            )
            seconds[name] = seconds.get(name, 0.0) + value
    return {"training": seconds.pop("training"), **seconds}
