"""The sweep that is disturbed, with the digests of its finished shards."""

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
family = "{family}"
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

# Seconds after which an expected event counts as failed.
TIMEOUT = 120.0


@dataclass(frozen=True)
class Size:
    """The size of the sweep.

    Args:
        widths: Widths of the networks.
        steps: Steps of a run.
        seeds: Number of seeds.
        family: Family of the networks.
    """

    widths: Sequence[int]
    steps: int
    seeds: int
    family: str = "mlp"

    def spec(self) -> str:
        """Return the spec as TOML."""
        return SPEC.format(widths=list(self.widths), steps=self.steps, seeds=self.seeds, family=self.family)


@dataclass
class Subject:
    """A sweep in a separate folder.

    Args:
        folder: Folder of the spec and of the sweep's output.
        size: Size of the sweep.
        finished: Digest of every shard, from when the shard was first recorded, by file name.
        environment: Environment variables of every command.
    """

    folder: Path
    size: Size
    finished: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.spec.write_text(self.size.spec(), encoding="utf-8")

    @property
    def spec(self) -> Path:
        """The spec file."""
        return self.folder / "spec.toml"

    @property
    def out(self) -> Path:
        """The folder of the sweep."""
        return self.folder / "out"

    def command(self, out: Path | None = None, *more: str) -> list[str]:
        """Return the command that sweeps with two workers.

        Args:
            out: Folder of the output, or None for `self.out`.
            more: Further options of the command.
        """
        target = str(out or self.out)
        return [sys.executable, "-m", "noisescale", "sweep", str(self.spec), "--out", target, "--jobs", "2", *more]

    def start(
        self, *more: str, environment: Mapping[str, str] | None = None, largest_file: int | None = None
    ) -> subprocess.Popen[str]:
        """Start the sweep. The arguments are as in `processes.start`."""
        return start(self.command(None, *more), {**self.environment, **(environment or {})}, largest_file)

    def complete(self, out: Path | None = None) -> Outcome:
        """Run the sweep to its end, in its folder or in another."""
        return wait_for_exit(start(self.command(out), self.environment))

    def shards(self) -> dict[str, str]:
        """Compute the digest of every shard."""
        return digests(self.out)

    def record_finished(self) -> int:
        """Record the digests of new shards, and return the number of shards."""
        shards = self.shards()
        self.finished = {**shards, **self.finished}
        return len(shards)

    def wait_for_packs(self, more: int, driver: subprocess.Popen[str], seconds: float = TIMEOUT) -> bool:
        """Wait until more packs are finished, and return whether the driver is still running.

        Args:
            more: Number of packs.
            driver: The driver.
            seconds: Time limit.
        """
        before = len(self.shards())
        wait_until(lambda: driver.poll() is not None or len(self.shards()) >= before + more, seconds)
        return driver.poll() is None

    def leftovers(self) -> list[str]:
        """List temporary files that a killed writer left behind."""
        return [path.name for path in self.out.rglob(".*.tmp")]


@dataclass(frozen=True)
class Outcome:
    """The end of a command.

    Args:
        code: Exit code.
        stderr: Messages of the command.
    """

    code: int
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of the messages."""
        return self.stderr.strip().splitlines()[-1] if self.stderr.strip() else ""

    @property
    def is_one_message(self) -> bool:
        """True if the command ended with one message and not with a traceback."""
        return self.last_line.startswith("noisescale: ") and "Traceback" not in self.stderr


def wait_for_exit(driver: subprocess.Popen[str], seconds: float = 600.0) -> Outcome:
    """Wait for a command to end."""
    _, stderr = driver.communicate(timeout=seconds)
    return Outcome(driver.returncode, stderr)


def digests(out: Path) -> dict[str, str]:
    """Compute the digest of every finished shard of a folder, by file name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (out / "shards").glob("*.parquet")}
