"""The sweep that is disturbed, and what of it has to stay as it is."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from disturbances.processes import start, wait_until

SPEC = """
name = "faults"
seeds = {seeds}
[dataset]
name = "digits"
train_size = 500
[model]
family = "mlp"
[grid]
width = {widths}
learning_rate = {{ from = 0.5, to = 4.0, factor = 2.0 }}
batch_size = [16, 32]
[training]
steps = {steps}
max_extensions = 1
[stability]
steps = 50
seeds = 2
batch_size = [16]
"""

# What is waited for longer than this does not come.
PATIENCE = 120.0


@dataclass(frozen=True)
class Size:
    """How much there is to disturb."""

    widths: Sequence[int]
    steps: int
    seeds: int

    def text(self) -> str:
        return SPEC.format(widths=list(self.widths), steps=self.steps, seeds=self.seeds)


@dataclass
class Subject:
    """A sweep in a folder of its own.

    Arguments:
        folder: holds the spec and the sweep's output. size: how much there is to train.
        finished: the digest of every shard at the moment when it was first seen.
    """

    folder: Path
    size: Size
    finished: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.spec.write_text(self.size.text(), encoding="utf-8")

    @property
    def spec(self) -> Path:
        return self.folder / "spec.toml"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def command(self, out: Path | None = None, *more: str) -> list[str]:
        """The sweep as a user starts it, with two workers."""
        where = str(out or self.out)
        return [sys.executable, "-m", "noisescale", "sweep", str(self.spec), "--out", where, "--jobs", "2", *more]

    def start(
        self, *more: str, environment: Mapping[str, str] | None = None, largest_file: int | None = None
    ) -> subprocess.Popen[str]:
        return start(self.command(None, *more), environment, largest_file)

    def complete(self, out: Path | None = None) -> Ended:
        """Run it to its end, here or in another folder."""
        return ended(start(self.command(out)))

    def shards(self) -> dict[str, str]:
        """The digest of every shard there is."""
        return digests(self.out)

    def remember(self) -> int:
        """Look at what is finished; what was seen before is not looked at anew. Returns the number of shards."""
        found = self.shards()
        self.finished = {**found, **self.finished}
        return len(found)

    def wait_for_packs(self, more: int, driver: subprocess.Popen[str], seconds: float = PATIENCE) -> bool:
        """Wait until so many more packs are finished; False where the driver ended before."""
        before = len(self.shards())
        wait_until(lambda: driver.poll() is not None or len(self.shards()) >= before + more, seconds)
        return driver.poll() is None

    def leftovers(self) -> list[str]:
        """Files that a killed writer left."""
        return [path.name for path in self.out.rglob(".*.tmp")]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    said: str

    @property
    def last(self) -> str:
        return self.said.strip().splitlines()[-1] if self.said.strip() else ""

    @property
    def in_one_line(self) -> bool:
        """Whether it ended with one message, as every refusal does, instead of a traceback."""
        return self.last.startswith("noisescale: ") and "Traceback" not in self.said


def ended(driver: subprocess.Popen[str], seconds: float = 600.0) -> Ended:
    """Wait for the end of a command."""
    _, said = driver.communicate(timeout=seconds)
    return Ended(driver.returncode, said)


def digests(out: Path) -> dict[str, str]:
    """The digest of every finished shard of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (out / "shards").glob("*.parquet")}
