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

# Seconds between lines of progress if the output is not a terminal but, for example, a log file.
PLAIN_LINE_SECONDS = 15.0

# Smallest time between two updates of `heartbeat.json`, in seconds. Each update is flushed to disk, and small packs
# finish many times a second.
HEARTBEAT_SECONDS = 1.0


@dataclass
class Counts:
    """Counts of runs by state, and work in seconds on one worker: measured if it is done, else estimated.

    The names of the fields are keys of `heartbeat.json`. A pack is a set of runs that train together.

    Args:
        done: Number of runs finished by this sweep.
        total: Number of runs of all rounds that this sweep has started.
        diverged: Number of finished runs that diverged.
        failed: Number of runs in failed packs.
        work_done: Work that this sweep has done on finished packs.
        work_left: Total work of all unfinished packs, including the parts that are done.
        work_begun: Part of `work_left` that this sweep has done.
        work_kept: Part of `work_left` that earlier sweeps did.
        began: The time of `time.monotonic` at which this sweep started.
        timed_from: The time of `time.monotonic` at which the first work was seen. None before that. Before it, workers
            start.
        work_before: Work that was done at that time.
        longest_left: The largest work of a pack that is left. One worker does it.
    """

    done: int = 0
    total: int = 0
    diverged: int = 0
    failed: int = 0
    work_done: float = 0.0
    work_left: float = 0.0
    work_begun: float = 0.0
    work_kept: float = 0.0
    began: float = field(default_factory=time.monotonic)
    timed_from: float | None = None
    work_before: float = 0.0
    longest_left: float = 0.0

    @property
    def runs_per_second(self) -> float | None:
        """Runs per second since this sweep started; None before the first run is done."""
        return self.done / max(time.monotonic() - self.began, 1e-9) if self.done else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left at the speed since the first work was seen; None before any work is done."""
        start = self.began if self.timed_from is None else self.timed_from
        done = self.work_done + self.work_begun - self.work_before
        if done <= 0:
            return None
        left = max(0.0, self.work_left - self.work_begun - self.work_kept)
        return max((time.monotonic() - start) * left / done, min(left, self.longest_left))

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
        # The unfinished packs by id, and the share of each that earlier sweeps did.
        self._packs: dict[str, Pack] = {}
        self._done_before: dict[str, float] = {}
        # Planned seconds of the unfinished packs, by width.
        self._planned_left: dict[int | None, float] = {}
        # Measured and planned seconds of the packs that this sweep has finished, by width.
        self._finished: dict[int | None, tuple[float, float]] = {}

    def start_round(self, name: str, packs: Iterable[Pack]) -> None:
        """Add the packs of a round, which the driver has planned together, to the remaining work.

        Args:
            name: The name of the round.
            packs: The packs.
        """
        packs = list(packs)
        self.counts.total += sum(len(pack.runs) for pack in packs)
        for pack in packs:
            self._packs[pack.pack_id] = pack
            self._planned_left[_width(pack)] = self._planned_left.get(_width(pack), 0.0) + pack.seconds
        self._sum_up()
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
        self.counts.diverged += outcome.diverged
        if self._packs.pop(pack.pack_id, None) is not None:
            self._planned_left[_width(pack)] -= pack.seconds
        if not self._packs:  # sums of floats may end slightly above or below zero
            self._planned_left.clear()
        here = 1.0 - self._done_before.pop(pack.pack_id, 0.0)
        measured, width = sum(outcome.seconds.values()) or self._expected(pack), _width(pack)
        before = self._finished.get(width, (0.0, 0.0))
        self._finished[width] = before[0] + measured, before[1] + pack.seconds
        self.counts.work_done += here * measured
        self._sum_up()

    def _expected(self, pack: Pack) -> float:
        """Return the time of a pack on one worker: the planned time, times what packs of its width took longer."""
        return pack.seconds * self._slowness(_width(pack))

    def _slowness(self, width: int | None) -> float:
        """Return the ratio of measured to planned time of the finished packs of a width, or else of all of them."""
        measured, planned = self._finished.get(width, (0.0, 0.0))
        if not planned:
            measured, planned = (sum(part[k] for part in self._finished.values()) for k in (0, 1))
        return measured / planned if planned else 1.0

    def _sum_up(self) -> None:
        self.counts.work_left = sum(
            seconds * self._slowness(width) for width, seconds in self._planned_left.items() if seconds > 0
        )

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
        shares = {pack_id: share for pack_id, share in read_shares().items() if pack_id in self._packs}
        self._done_before |= {pack_id: before for pack_id, (before, _) in shares.items()}
        expected = {pack_id: self._expected(self._packs[pack_id]) for pack_id in shares}
        self.counts.work_begun = sum(expected[name] * (now - before) for name, (before, now) in shares.items())
        self.counts.work_kept = sum(expected[name] * before for name, (before, _) in shares.items())
        self._note_work(expected, shares)
        counts = self.counts
        speed = {"runs_per_second": counts.runs_per_second, "seconds_left": counts.seconds_left}
        values = {**vars(counts), **speed, "time": time.time()}
        write_atomically(self._path, lambda file: file.write(json.dumps(values).encode()))

    def _note_work(self, expected: Mapping[str, float], shares: Mapping[str, tuple[float, float]]) -> None:
        """Note when the first work was seen, and the longest pack that is left."""
        counts = self.counts
        work = counts.work_done + counts.work_begun
        if counts.timed_from is None and work:
            counts.timed_from, counts.work_before = time.monotonic(), work
        remaining = {name: seconds * (1 - shares[name][1]) for name, seconds in expected.items()}
        counts.longest_left = max(
            (remaining.get(name, self._expected(pack)) for name, pack in self._packs.items()), default=0.0
        )

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


def _width(pack: Pack) -> int | None:
    return pack.runs[0].width if pack.runs else None
