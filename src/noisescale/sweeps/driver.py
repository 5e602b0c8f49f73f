"""The driver of one sweep: round after round, it plans what is wanted, has it trained, and accounts for it."""

from __future__ import annotations

import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from noisescale.runs import Run
from noisescale.store import (
    FAILURES,
    SHARDS,
    Failure,
    Study,
    compact,
    finished_packs,
    read_failures,
    versions,
    write_atomically,
)
from noisescale.sweeps.cost import Shape
from noisescale.sweeps.executors import Executor
from noisescale.sweeps.extensions import extension_runs
from noisescale.sweeps.folder import CHECKPOINTS, KERNELS, as_plain, mark_done
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.jobs import SLICE_SECONDS, Job, Outcome, Retry
from noisescale.sweeps.log import SweepLog
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.plan import Pack, PackLimits, Plan
from noisescale.sweeps.progress import SweepProgress
from noisescale.sweeps.stability_ladder import stability_runs
from noisescale.sweeps.watchdog import SIGNS_AT_LEAST, shares_done


def wanted_runs(grid: Grid, found: pd.DataFrame) -> list[Run]:
    """Every run that the spec and the results so far ask for, finished ones included."""
    return grid.runs() + stability_runs(grid, found) + extension_runs(grid, found)


@dataclass(frozen=True)
class JobLimits:
    """Of time, in seconds.

    Args:
        until: The time of `time.monotonic` at which packs are put aside.
        of_pack: Of training, after which one fails.
        stuck_after: Without a sign of life, after which a worker is killed.
    """

    until: float
    of_pack: float
    stuck_after: float


class Driver:
    """One sweep in progress: round after round, until nothing more is wanted."""

    def __init__(
        self,
        grid: Grid,
        shapes: dict[int, Shape],
        folder: Path,
        executor: Executor,
        workers: Workers,
        times: JobLimits,
        *,
        compile: bool,
        quiet: bool,
    ) -> None:
        self.grid, self.executor, self.workers, self.compile, self.times = grid, executor, workers, compile, times
        self.folder = folder.absolute()  # a worker elsewhere has another working folder
        self.shapes, self.limits = shapes, PackLimits.of(workers)
        self.plan = Plan(folder / "plan.jsonl")
        self.progress = SweepProgress(folder, quiet)
        self.log = SweepLog(folder)
        self.seconds = dict.fromkeys(("training", "evaluation", "storing", "planning"), 0.0)
        self.failed: set[str] = set()
        self.notes: set[str] = set()
        self.warned: set[str] = set()

    def note(self, text: str) -> None:
        """Say something once, to whoever looks and in the log."""
        if text not in self.notes:
            self.notes.add(text)
            self.progress.note(text)
            self.log.write(text)

    def run(self) -> None:
        who, what = self.workers, type(self.executor).__name__
        own = f"process {os.getpid()} on {platform.node()}, {who.count} workers of {who.threads} threads"
        self.log.write(f"begun by {own}, {who.device}, {what}; {versions()}")
        # What a sweep that was ended in the middle of a round has left.
        compact(self.folder / SHARDS)
        with self.executor:
            for note in self.executor.notes():
                self.note(note)
            done = False
            try:
                name = "grid"
                while packs := self._next_packs():
                    if self._is_time_up():
                        return
                    self._execute(name, packs)
                    compact(self.folder / SHARDS)
                    name = "extensions"
                done = True
            finally:
                self.progress.stop(done)
                self.log.write(f"ended: {self.progress.counts.line()}")
        failed = self._still_failed()
        if not failed:  # a pack that failed may go on from where it was
            shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        self.plan.keep(finished_packs(self.folder / SHARDS) | failed.keys())
        mark_done(self.folder)

    def _still_failed(self) -> dict[str, str]:
        """Packs that failed at their last attempt; records of runs that are there by now, in other packs, go."""
        failed = read_failures(self.folder)
        # Every shard is read for this: not for nothing.
        finished = set(Study(self.folder, as_plain(self.grid.spec)).finished().run_id) if failed else set()
        left = {}
        for pack_id, failure in failed.items():
            if finished.issuperset(run.run_id for run in failure.runs):
                (self.folder / FAILURES / f"{pack_id}.json").unlink(missing_ok=True)
            else:
                left[pack_id] = failure.error
        return left

    def _is_time_up(self) -> bool:
        return time.monotonic() >= self.times.until

    def _next_packs(self) -> list[Pack]:
        """Packs with wanted runs that are neither finished nor failed in this session, longest first."""
        began = time.perf_counter()
        found = Study(self.folder, as_plain(self.grid.spec)).finished()
        settled = self.failed.union(found.run_id)
        missing = [run for run in wanted_runs(self.grid, found) if run.run_id not in settled]
        planned, new = self.plan.packs_for(missing, self.shapes, self.limits)
        if new:
            self.plan.add(new)
        self.seconds["planning"] += time.perf_counter() - began
        return sorted(planned + new, key=lambda pack: -pack.seconds)

    def _execute(self, name: str, packs: list[Pack]) -> None:
        self.progress.start_round(name, packs)
        by_id = {pack.pack_id: pack for pack in packs}
        jobs = [
            Job(
                pack,
                self.grid.spec.dataset.options(pack.runs[0].label_noise),
                self.folder / SHARDS,
                self.folder / KERNELS,
                self.folder / CHECKPOINTS,
                self.workers.device,
                self.compile,
                self.times.until,
                self.times.of_pack,
                min(SLICE_SECONDS, self.times.stuck_after / SIGNS_AT_LEAST),
            )
            for pack in packs
        ]

        def beat() -> None:
            self.progress.beat(lambda: shares_done(self.folder / CHECKPOINTS))

        for became in self.executor.run(jobs, self._is_time_up, beat):
            if isinstance(became, Outcome):
                self._account(by_id[became.pack_id], became)
            elif isinstance(became, Retry):
                self.log.write_retry(by_id[became.pack_id], became)
            beat()

    def _account(self, pack: Pack, outcome: Outcome) -> None:
        self.progress.finish_pack(pack, outcome)
        self.log.write_outcome(pack, outcome)
        if outcome.note:
            self.note(outcome.note)
        for place, text in outcome.warnings.items():
            if place not in self.warned:
                self.warned.add(place)
                self.note(f"{place}: {text}")
        for name, value in outcome.seconds.items():
            self.seconds[name] += value
        record = self.folder / FAILURES / f"{pack.pack_id}.json"
        if outcome.error is None:  # one that is put aside was begun again too, and has not failed this time
            record.unlink(missing_ok=True)
            return
        self.failed.update(run.run_id for run in pack.runs)
        text = Failure(outcome.error, pack.runs).text()
        write_atomically(record, lambda file: file.write(text.encode()))
