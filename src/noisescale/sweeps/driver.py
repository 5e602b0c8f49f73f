"""The driver of one sweep: in every round it plans the missing runs, has them trained, and records the outcomes.

A pack is a set of runs that train together. An executor trains packs in worker processes. Each finished pack writes its
results to a shard, a file of its own, and many shards are later joined into larger files.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from noisescale.errors import printable
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
from noisescale.sweeps.code_identity import CodeIdentity
from noisescale.sweeps.cost import ModelSize
from noisescale.sweeps.executors import Executor
from noisescale.sweeps.extensions import extension_runs
from noisescale.sweeps.folder import CHECKPOINTS, KERNELS, as_plain, mark_done
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.jobs import SLICE_SECONDS, Job, Outcome, Retry
from noisescale.sweeps.log import SweepLog
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.plan import Pack, PackLimits, Plan
from noisescale.sweeps.price_runs import price_notes, price_runs
from noisescale.sweeps.progress import SweepProgress
from noisescale.sweeps.stability_ladder import stability_runs
from noisescale.sweeps.watchdog import REPORTS_PER_TIMEOUT, read_step_shares


def required_runs(grid: Grid, results: pd.DataFrame) -> list[Run]:
    """List the runs that the spec and the results so far require, including finished runs.

    Args:
        grid: The spec's grid.
        results: `Study.finished()`.

    Returns:
        The runs of the grid, of the stability ladders (short runs that measure the largest stable rate), of the
        extensions (further values and longer budgets near an optimum), and of the cells that measure the price of a
        larger rate.
    """
    runs = grid.runs() + stability_runs(grid, results) + extension_runs(grid, results)
    return runs + price_runs(grid, results)


@dataclass(frozen=True)
class JobLimits:
    """Time limits of jobs, in seconds.

    Args:
        deadline: The time of `time.monotonic` at which packs pause.
        max_pack_seconds: Seconds of training and evaluation after which a pack fails.
        stuck_after: Seconds without a progress report after which a worker is killed.
    """

    deadline: float
    max_pack_seconds: float
    stuck_after: float


class Driver:
    """One sweep in progress, until no required run is missing.

    Args:
        grid: The spec's grid.
        sizes: Sizes of the model and the data, by width.
        folder: The folder of the sweep.
        executor: Trains the packs.
        workers: The workers of this machine.
        time_limits: Time limits of jobs.
        code: Identity of the user's code; None without code of a user.
        compile: True asks for `torch.compile`.
        quiet: True suppresses the display of progress.
    """

    def __init__(
        self,
        grid: Grid,
        sizes: dict[int, ModelSize],
        folder: Path,
        executor: Executor,
        workers: Workers,
        time_limits: JobLimits,
        *,
        code: CodeIdentity | None,
        compile: bool,
        quiet: bool,
    ) -> None:
        self.grid, self.executor, self.workers = grid, executor, workers
        self.code, self.compile, self.time_limits = code, compile, time_limits
        self.folder = folder.absolute()  # a worker may run in a different working folder
        self.sizes, self.pack_limits = sizes, PackLimits.of(workers)
        self.plan = Plan(folder / "plan.jsonl")
        self.progress = SweepProgress(folder, quiet)
        self.log = SweepLog(folder)
        self.seconds = dict.fromkeys(("training", "evaluation", "storing", "planning"), 0.0)
        self.failed: set[str] = set()
        self.notes: set[str] = set()
        self.warned: set[str] = set()

    def note(self, text: str) -> None:
        """Print a note and log it, the first time only. It may hold names of files, so it is escaped."""
        text = printable(text)
        if text not in self.notes:
            self.notes.add(text)
            self.progress.note(text)
            self.log.write(text)

    def run(self) -> None:
        """Train the missing runs, round after round, until no run is missing or the deadline passes."""
        workers, executor = self.workers, type(self.executor).__name__
        driver = f"process {os.getpid()} on {platform.node()}, {workers.count} workers of {workers.threads} threads"
        self.log.write(f"started by {driver}, {workers.device}, {executor}; {versions()}")
        # A sweep that was killed during a round may have left shards that are not joined yet.
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
                    ladders = any(pack.runs[0].purpose == "stability" for pack in packs)
                    self._execute(f"{name} and stability ladders" if ladders else name, packs)
                    compact(self.folder / SHARDS)
                    name = "extensions"
                done = True
            finally:
                self.progress.stop(done)
                self.log.write(f"ended: {self.progress.counts.line()}")
        failed = self._still_failed()
        if not failed:  # the next sweep may continue a failed pack from its checkpoint
            shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        self.plan.retain(finished_packs(self.folder / SHARDS) | failed.keys())
        mark_done(self.folder)

    def _still_failed(self) -> dict[str, str]:
        """Return the errors of failed packs by id, and remove records of packs whose runs other packs have trained."""
        failed = read_failures(self.folder)
        # Reading all results takes long, so read them only if a pack has failed.
        finished = set(Study(self.folder, as_plain(self.grid.spec)).finished().run_id) if failed else set()
        errors = {}
        for pack_id, failure in failed.items():
            if finished.issuperset(run.run_id for run in failure.runs):
                self._forget_failure(pack_id)
            else:
                errors[pack_id] = failure.error
        return errors

    def _is_time_up(self) -> bool:
        return time.monotonic() >= self.time_limits.deadline

    def _next_packs(self) -> list[Pack]:
        """Plan the packs with required runs that have neither finished nor failed in this session."""
        start = time.perf_counter()
        results = Study(self.folder, as_plain(self.grid.spec)).finished()
        ended = self.failed.union(results.run_id)
        missing = [run for run in required_runs(self.grid, results) if run.run_id not in ended]
        for note in [] if missing else price_notes(self.grid, results):
            self.note(note)
        planned, new_packs = self.plan.packs_for(missing, self.sizes, self.pack_limits)
        if new_packs:
            self.plan.add(new_packs)
        self.seconds["planning"] += time.perf_counter() - start
        packs = sorted(planned + new_packs, key=lambda pack: -pack.seconds)
        # The longest first, so that no worker ends late; but the very first result should come soon.
        return [*packs[-1:], *packs[:-1]]

    def _execute(self, name: str, packs: list[Pack]) -> None:
        self.progress.start_round(name, packs)
        by_id = {pack.pack_id: pack for pack in packs}
        jobs = [
            Job(
                pack,
                self.grid.data_options(pack.runs[0]),
                self.folder / SHARDS,
                self.folder / KERNELS,
                self.folder / CHECKPOINTS,
                self.workers.device,
                self.compile,
                self.time_limits.deadline,
                self.time_limits.max_pack_seconds,
                min(SLICE_SECONDS, self.time_limits.stuck_after / REPORTS_PER_TIMEOUT),
                self.code,
                checkpoint=self.grid.checkpoint,
            )
            for pack in packs
        ]

        def refresh() -> None:
            self.progress.refresh(lambda: read_step_shares(self.folder / CHECKPOINTS))

        for event in self.executor.run(jobs, self._is_time_up, refresh):
            if isinstance(event, Outcome):
                self._record(by_id[event.pack_id], event)
            elif isinstance(event, Retry):
                self.log.write_retry(by_id[event.pack_id], event)
            refresh()

    def _record(self, pack: Pack, outcome: Outcome) -> None:
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
        if outcome.error is None:  # the pack is done or paused, so an older failure no longer holds
            self._forget_failure(pack.pack_id)
            return
        self.failed.update(run.run_id for run in pack.runs)
        text = Failure(outcome.error, pack.runs).text()
        write_atomically(self._failure_path(pack.pack_id), lambda file: file.write(text.encode()))

    def _failure_path(self, pack_id: str) -> Path:
        return self.folder / FAILURES / f"{pack_id}.json"

    def _forget_failure(self, pack_id: str) -> None:
        with contextlib.suppress(IsADirectoryError, PermissionError):  # somebody put a folder in its place
            self._failure_path(pack_id).unlink(missing_ok=True)
