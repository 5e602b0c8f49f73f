"""Progress of a sweep: a bar on a terminal, plain lines elsewhere, and the heartbeat file for other processes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from noisescale.store import write_atomically
from noisescale.sweeps.jobs import Outcome
from noisescale.sweeps.plan import Pack
from noisescale.sweeps.time_left import TimeLeft

# Seconds between lines of progress if the output is not a terminal but, for example, a log file.
PLAIN_LINE_SECONDS = 15.0

# Smallest time between two updates of `heartbeat.json`, in seconds. Each update is flushed to disk, and small packs
# finish many times a second.
HEARTBEAT_SECONDS = 1.0


@dataclass
class Counts:
    """Counts of runs by state, and the time left. The names of the fields are keys of `heartbeat.json`.

    Args:
        done: Number of runs finished by this sweep.
        total: Number of runs of all rounds that this sweep has started.
        diverged: Number of finished runs that diverged, apart from those of stability ladders, which train until a
            run diverges.
        failed: Number of runs in failed packs.
        began: The time of `time.monotonic` at which this sweep started.
        seconds_left: Estimated seconds left; None before any pace was seen.
    """

    done: int = 0
    total: int = 0
    diverged: int = 0
    failed: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds_left: float | None = None

    @property
    def runs_per_second(self) -> float | None:
        """Runs per second since this sweep started; None before the first run is done."""
        return self.done / max(time.monotonic() - self.began, 1e-9) if self.done else None

    def line(self) -> str:
        """Return the line that the terminal shows."""
        left = self.seconds_left
        rest = "time left unknown" if left is None else f"{left:.0f} s left"
        speed = "" if self.runs_per_second is None else f"{self.runs_per_second:.1f} runs/s, "
        return f"{self.done}/{self.total} runs, {speed}{rest}, {self.diverged} diverged" + (
            f", {self.failed} failed" if self.failed else ""
        )


class SweepProgress:
    """Shows the progress of a sweep and writes `heartbeat.json`.

    Args:
        folder: The folder of the sweep.
        quiet: True shows nothing, but still writes `heartbeat.json`.
    """

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        self._path, self._quiet = folder / "heartbeat.json", quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_plain = time.monotonic()
        self._last_heartbeat = -math.inf
        self.counts = Counts()
        self._time_left = TimeLeft()

    def start_round(self, name: str, packs: Iterable[Pack]) -> None:
        """Add the packs of a round, which the driver has planned together, to the remaining work.

        Args:
            name: The name of the round.
            packs: The packs.
        """
        packs = list(packs)
        self.counts.total += sum(len(pack.runs) for pack in packs)
        self._time_left.add(packs)
        self.counts.seconds_left = self._time_left.seconds()
        if not self._quiet:
            if self._console.is_terminal and self._bar is None:
                columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[line]}"))
                self._bar = Progress(*columns, console=self._console)
                self._bar.start()
                self._task = self._bar.add_task(name, total=self.counts.total, line="")
            elif self._bar is None:
                self._console.print(
                    f"{name}: {self.counts.total - self.counts.done} runs in {len(packs)} packs", highlight=False
                )
        self._show(name)
        self.refresh()

    def note(self, text: str) -> None:
        """Print a note."""
        if not self._quiet:
            self._console.print(f"note: {text}", highlight=False, markup=False)

    def finish_pack(self, pack: Pack, outcome: Outcome) -> None:
        """Count the outcome of a pack. A paused pack does not count as done."""
        if outcome.paused:
            return
        if outcome.error is None:
            self.counts.done += outcome.runs
        else:
            self.counts.failed += outcome.runs
        if not any(run.purpose == "stability" for run in pack.runs):
            self.counts.diverged += outcome.diverged
        self._time_left.finish(pack, sum(outcome.seconds.values()))
        self.counts.seconds_left = self._time_left.seconds()

    def refresh(self, read_shares: Callable[[], Mapping[str, tuple[float, float]]] = dict) -> None:
        """Update the display, and `heartbeat.json` if it is older than a second.

        Args:
            read_shares: Returns two fractions of the steps of each pack in training, by pack id: the steps that earlier
                sweeps did, and all steps done so far.
        """
        self._show(None)
        if time.monotonic() - self._last_heartbeat < HEARTBEAT_SECONDS:
            return
        self._last_heartbeat = time.monotonic()
        self._time_left.see(read_shares())
        self.counts.seconds_left = self._time_left.seconds()
        values = {**vars(self.counts), "runs_per_second": self.counts.runs_per_second, "time": time.time()}
        write_atomically(self._path, lambda file: file.write(json.dumps(values).encode()))

    def stop(self, done: bool) -> None:
        """Close the bar and print the last line.

        Args:
            done: True if no required run is missing.
        """
        if self._bar is not None:
            self._bar.stop()
        if not self._quiet and (self.counts.total or done):
            line = self.counts.line() if self.counts.total else "nothing to do: every run has a result"
            self._console.print(line, highlight=False)

    def _show(self, name: str | None) -> None:
        if self._quiet:
            return
        if self._bar is not None and self._task is not None:
            total, done = self.counts.total, self.counts.done
            self._bar.update(self._task, total=total, completed=done, line=self.counts.line())
            if name is not None:
                self._bar.update(self._task, description=name)
        elif time.monotonic() - self._last_plain > PLAIN_LINE_SECONDS:
            self._last_plain = time.monotonic()
            self._console.print(self.counts.line(), highlight=False)
