"""Damage shards after they were written: truncate them or flip a bit."""

from __future__ import annotations

import random
from pathlib import Path

from disturbances.fault import Report
from disturbances.subject import Subject


def truncate(path: Path, generator: random.Random) -> None:
    """Truncate a file at a random byte. The file can become empty."""
    data = path.read_bytes()
    path.write_bytes(data[: generator.randrange(len(data))])


def flip(path: Path, generator: random.Random) -> None:
    """Flip one random bit of a file."""
    data = bytearray(path.read_bytes())
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    path.write_bytes(data)


def damage(subject: Subject, generator: random.Random, kind: str) -> Report:
    """Damage half of the shards of a finished sweep, and run the sweep again. Only damaged packs must be trained.

    Args:
        subject: The sweep.
        generator: Random generator.
        kind: "truncated" or "flipped".
    """
    damage_done = "truncated at a random byte" if kind == "truncated" else "with one random bit flipped"
    report = Report(f"half of the shards {damage_done}", 0)
    report.check("the sweep completes before it is damaged", subject.complete().code == 0)
    subject.record_finished()
    paths = sorted((subject.out / "shards").glob("*.parquet"))
    damaged = generator.sample(paths, len(paths) // 2)
    for path in damaged:
        (truncate if kind == "truncated" else flip)(path, generator)
        del subject.finished[path.name]
    report.times = len(damaged)
    again = subject.complete()
    report.check(
        "the sweep names every damaged shard", all(f"{path.name} is damaged" in again.stderr for path in damaged)
    )
    moved = {path.name for path in (subject.out / "damaged").iterdir()}
    report.check("exactly the damaged shards are moved to damaged/", moved == {path.name for path in damaged})
    return report
