"""Shards that are no longer as they were written: cut off, or with one bit turned over."""

from __future__ import annotations

import random
from pathlib import Path

from disturbances.fault import Report
from disturbances.subject import Subject


def truncate(path: Path, chance: random.Random) -> None:
    """Cut a file off at a random byte; at the first, nothing is left."""
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def flip(path: Path, chance: random.Random) -> None:
    """Turn one random bit over."""
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def damage(subject: Subject, chance: random.Random, hurt: str) -> Report:
    """Damage half of a finished sweep's shards and run it again, which trains those and no others.

    Arguments:
        hurt: "truncated" or "flipped".
    """
    report = Report("half of the shards cut off at a random byte" if hurt == "truncated" else
                    "one random bit turned over in half of the shards", 0)  # fmt: skip
    report.check("the sweep that is then damaged completes", subject.complete().code == 0)
    subject.remember()
    paths = sorted((subject.out / "shards").glob("*.parquet"))
    chosen = chance.sample(paths, len(paths) // 2)
    for path in chosen:
        (truncate if hurt == "truncated" else flip)(path, chance)
        del subject.finished[path.name]
    report.times = len(chosen)
    again = subject.complete()
    report.check("every damaged shard is named", all(f"{path.name} is damaged" in again.said for path in chosen))
    aside = {path.name for path in (subject.out / "damaged").iterdir()}
    report.check("and is kept apart, no other is", aside == {path.name for path in chosen})
    return report
