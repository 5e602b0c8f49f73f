"""`sweep`: run what is missing in a folder."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from noisescale.errors import BadInput
from noisescale.runs import Run
from noisescale.store import (
    FAILURES,
    SHARDS,
    Study,
    compact,
    finished_packs,
    read_failures,
    record_times,
    set_damaged_aside,
    versions,
    write_atomically,
)
from noisescale.sweeps.cost import Shape, measure_shape
from noisescale.sweeps.executors import Executor, build_executor, check_executor
from noisescale.sweeps.extensions import extension_runs
from noisescale.sweeps.folder import (
    CHECKPOINTS,
    DAMAGED,
    KERNELS,
    as_plain,
    check_folder,
    create_folder,
    driver_lock,
    prepare_folder,
)
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.jobs import SLICE_SECONDS, Job, Outcome
from noisescale.sweeps.log import SweepLog
from noisescale.sweeps.machine import choose_device, default_workers, usable_cores
from noisescale.sweeps.plan import Pack, PackLimits, Plan, planned_data
from noisescale.sweeps.progress import SweepProgress
from noisescale.sweeps.spec import SweepSpec
from noisescale.sweeps.stability_ladder import stability_runs
from noisescale.sweeps.watchdog import SIGNS_AT_LEAST, STUCK_AFTER, shares_done
from noisescale.training.precision import check_precision


def sweep(
    spec: SweepSpec,
    out: str | Path,
    *,
    jobs: int | None = None,
    device: str = "auto",
    executor: str = "local",
    compile: bool = False,
    max_seconds: float | None = None,
    max_pack_seconds: float | None = None,
    stuck_after: float = STUCK_AFTER,
    quiet: bool = False,
) -> Study:
    """Run everything that a spec asks for and that its folder does not hold yet.

    The grid and the stability ladder first; then, round after round, what their results ask for: finer rungs of the
    ladder, rungs beyond edges at which an optimum lies, longer budgets. A finished run is never repeated, and every
    finished pack is kept whatever happens.

    Arguments:
        spec: what to run. out: the folder. jobs: worker processes (default: one a core, one on a GPU).
        device: "auto", "cpu" or "cuda". executor: "local", "ray" or "slurm".
        compile: ask for `torch.compile`; results do not need it.
        max_seconds: after which packs in training are put aside, to be gone on with by the next call.
        max_pack_seconds: of training, after which a pack fails; its checkpoint stays, for a call with a longer limit.
        stuck_after: seconds without a sign of life, after which a worker process is killed and its pack begun once
            more. quiet: no progress.
    Returns:
        The study. Packs that failed are listed by `failures(out)`; diverged runs are results.
    Raises:
        BadInput: the spec, the data, the model or the folder cannot be used; nothing is written then.
        OSError: the disk is full; everything finished is kept.
    """
    _refuse_unguarded_script()
    began = time.perf_counter()
    until = math.inf if max_seconds is None else time.monotonic() + max_seconds
    folder = Path(out)
    check_executor(executor)
    device = choose_device(device, executor)
    check_precision(spec.training.precision, device)
    grid = Grid(spec)
    check_folder(folder, spec)
    grid.check()
    _check_data(folder, grid)
    shapes = model_shapes(grid, spec.grid.width)
    create_folder(folder)
    with driver_lock(folder):
        prepare_folder(folder, spec)
        _record_data(folder, grid)
        limits = JobLimits(until, math.inf if max_pack_seconds is None else max_pack_seconds, stuck_after)
        driver = _Driver(grid, shapes, folder, device, executor, jobs, compile, limits, quiet)
        for note in (*grid.notes(), *_set_aside(folder)):
            driver.note(note)
        driver.run()
        record_times(folder, "sweep", {**driver.seconds, "wall": time.perf_counter() - began})
    return Study.open(folder)


def _refuse_unguarded_script() -> None:
    """A worker imports the script that began the sweep; without a guard that would begin it again, without end."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        required = "`if __name__ == '__main__':` around it, because workers import the script"
        raise BadInput("a script that calls sweep()", required, "a call at the script's top level")


def failures(folder: str | Path) -> dict[str, str]:
    """Packs that failed at their last attempt, and why, by pack id."""
    return {pack_id: failure.error for pack_id, failure in read_failures(Path(folder)).items()}


def model_shapes(grid: Grid, widths: Iterable[int]) -> dict[int, Shape]:
    """What decides a pack's cost, by width."""
    data = grid.dataset(grid.label_noises[0])
    examples = len(data.x_train) + len(data.x_validation) + len(data.x_test)
    shapes = {}
    for width in widths:
        module = grid.factory(width, data.input_shape, data.num_classes)
        shapes[width] = measure_shape(module, data.x_train[:2], examples)
    return shapes


def wanted_runs(grid: Grid, found: pd.DataFrame) -> list[Run]:
    """Every run that the spec and the results so far ask for, finished ones included."""
    return grid.runs() + stability_runs(grid, found) + extension_runs(grid, found)


@dataclass(frozen=True)
class JobLimits:
    """Of time, in seconds.

    Arguments:
        until: the time of `time.monotonic` at which packs are put aside. of_pack: of training, after which one fails.
        stuck_after: without a sign of life, after which a worker is killed.
    """

    until: float
    of_pack: float
    stuck_after: float


class _Driver:
    """One sweep in progress: round after round, until nothing more is wanted."""

    def __init__(
        self,
        grid: Grid,
        shapes: dict[int, Shape],
        folder: Path,
        device: str,
        executor: str,
        jobs: int | None,
        compile: bool,
        times: JobLimits,
        quiet: bool,
    ) -> None:
        self.cores = usable_cores()
        self.grid, self.device, self.compile, self.times = grid, device, compile, times
        self.folder = folder.absolute()  # a worker elsewhere has another working folder
        self.workers = jobs or default_workers(device)
        self.threads = max(1, self.cores // self.workers)
        self.executor = executor
        self.shapes, self.limits = shapes, PackLimits.of(device, self.workers)
        self.plan = Plan(folder / "plan.jsonl")
        self.progress = SweepProgress(folder, quiet)
        self.log = SweepLog(folder)
        self.seconds = dict.fromkeys(("training", "evaluation", "storing", "planning"), 0.0)
        self.failed: set[str] = set()
        self.notes: set[str] = set()

    def note(self, text: str) -> None:
        """Say something once, to whoever looks and in the log."""
        if text not in self.notes:
            self.notes.add(text)
            self.progress.note(text)
            self.log.say(text)

    def run(self) -> None:
        own = f"process {os.getpid()} on {platform.node()}, {self.workers} workers of {self.threads} threads"
        if self.workers > self.cores and self.executor == "local" and self.device == "cpu":
            self.note(f"{self.workers} workers share {self.cores} cores")
        self.log.say(f"begun by {own}, {self.device}, {self.executor}; {versions()}")
        place = self.workers, self.threads, self.device, self.folder, self.times.stuck_after
        with build_executor(self.executor, *place) as executor:
            try:
                name = "grid"
                while packs := self._next_packs():
                    if self._is_time_up():
                        return
                    self._execute(executor, name, packs)
                    compact(self.folder / SHARDS)
                    name = "extensions"
            finally:
                self.progress.stop()
                self.log.say(f"ended: {self.progress.counts.line()}")
        failed = self._still_failed()
        if not failed:  # a pack that failed may go on from where it was
            shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        self.plan.keep(finished_packs(self.folder / SHARDS) | failed.keys())

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

    def _execute(self, executor: Executor, name: str, packs: list[Pack]) -> None:
        self.progress.start_round(name, packs)
        by_id = {pack.pack_id: pack for pack in packs}
        jobs = [
            Job(
                pack,
                self.grid.spec.dataset.options(pack.runs[0].label_noise),
                self.folder / SHARDS,
                self.folder / KERNELS,
                self.folder / CHECKPOINTS,
                self.device,
                self.compile,
                self.times.until,
                self.times.of_pack,
                min(SLICE_SECONDS, self.times.stuck_after / SIGNS_AT_LEAST),
            )
            for pack in packs
        ]

        def beat() -> None:
            self.progress.beat(lambda: shares_done(self.folder / CHECKPOINTS))

        for outcome in executor.run(jobs, self._is_time_up, beat):
            if outcome is not None:
                self._account(by_id[outcome.pack_id], outcome)
            beat()

    def _account(self, pack: Pack, outcome: Outcome) -> None:
        self.progress.finish_pack(pack, outcome)
        self.log.pack(pack, outcome)
        if outcome.note:
            self.note(outcome.note)
        for name, value in outcome.seconds.items():
            self.seconds[name] += value
        record = self.folder / FAILURES / f"{pack.pack_id}.json"
        if outcome.error is None:  # one that is put aside was begun again too, and has not failed this time
            record.unlink(missing_ok=True)
            return
        self.failed.update(run.run_id for run in pack.runs)
        records = [{**run.as_dict(), "run_id": run.run_id} for run in pack.runs]
        text = json.dumps({"error": outcome.error, "runs": records})
        write_atomically(record, lambda file: file.write(text.encode()))


def _set_aside(folder: Path) -> list[str]:
    """Notes on shards that were damaged, whose runs are now missing."""
    names = set_damaged_aside(folder / SHARDS, folder / DAMAGED)
    return [f"{SHARDS}/{name} is damaged: it lies in {DAMAGED}/ now, and its runs run again" for name in names]


def _check_data(folder: Path, grid: Grid) -> None:
    """Refuse to mix data: the folder's runs were planned with the same arrays.

    Raises:
        BadInput: the data set has changed since the folder was begun.
    """
    known = planned_data(folder / "plan.jsonl")
    for noise in grid.label_noises:
        if known.get(noise, grid.dataset(noise).hash) != grid.dataset(noise).hash:
            name = f"dataset {grid.spec.dataset.name}"
            raise BadInput(name, "the same arrays with which this folder was begun; use another --out", "other values")


def _record_data(folder: Path, grid: Grid) -> None:
    """Write what a factory needs to build a model for this data, so that a recommendation can hand it over."""
    data = grid.dataset(grid.label_noises[0])
    text = json.dumps({"name": data.name, "input_shape": list(data.input_shape), "num_classes": data.num_classes})
    write_atomically(folder / "data.json", lambda file: file.write(text.encode()))
