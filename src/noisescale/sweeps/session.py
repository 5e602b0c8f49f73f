"""`sweep`: run what is missing in a folder."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Iterable
from pathlib import Path

from noisescale.errors import BadInput
from noisescale.store import (
    SHARDS,
    Study,
    read_failures,
    record_times,
    set_damaged_aside,
    write_atomically,
)
from noisescale.sweeps.cost import Shape, measure_shape
from noisescale.sweeps.driver import Driver, JobLimits
from noisescale.sweeps.executors import build_executor, check_executor
from noisescale.sweeps.folder import (
    DAMAGED,
    check_folder,
    create_folder,
    prepare_folder,
)
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.lock import driver_lock
from noisescale.sweeps.machine import Workers, choose_device
from noisescale.sweeps.plan_file import planned_data
from noisescale.sweeps.spec import SweepSpec
from noisescale.sweeps.watchdog import STUCK_AFTER
from noisescale.training import check_precision


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

    Args:
        spec: What to run.
        out: The folder.
        jobs: Worker processes, at most one a core (default: one a core, or a GPU).
        device: "auto", "cpu" or "cuda".
        executor: "local", "ray" or "slurm".
        compile: Ask for `torch.compile`; results do not need it.
        max_seconds: After which packs in training are put aside, to be gone on with by the next call.
        max_pack_seconds: Of training, after which a pack fails; its checkpoint stays, for a call with a longer limit.
        stuck_after: Seconds without a sign of life, after which a worker process is killed and its pack begun once
            more.
        quiet: No progress.

    Returns:
        The study. Packs that failed are listed by `failures(out)`; diverged runs are results.

    Raises:
        BadInput: The spec, the data, the model or the folder cannot be used; nothing is written then.
        OSError: The disk is full; everything finished is kept.
    """
    _refuse_unguarded_script()
    began = time.perf_counter()
    until = math.inf if max_seconds is None else time.monotonic() + max_seconds
    folder = Path(out)
    check_executor(executor)
    device = choose_device(device, executor)
    workers = Workers.of(device, jobs)
    trainers = build_executor(executor, workers, folder.absolute(), stuck_after)
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
        driver = Driver(grid, shapes, folder, trainers, workers, limits, compile=compile, quiet=quiet)
        capped = executor == "local" and jobs is not None and jobs > workers.count
        fewer = [f"--jobs {jobs}: {workers.count} workers, since there are so many cores"] if capped else []
        for note in (*grid.notes(), *fewer, *_set_aside(folder)):
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


def _set_aside(folder: Path) -> list[str]:
    """Notes on shards that were damaged, whose runs are now missing."""
    names = set_damaged_aside(folder / SHARDS, folder / DAMAGED)
    return [f"{SHARDS}/{name} is damaged: it lies in {DAMAGED}/ now, and its runs run again" for name in names]


def _check_data(folder: Path, grid: Grid) -> None:
    """Refuse to mix data: the folder's runs were planned with the same arrays.

    Raises:
        BadInput: The data set has changed since the folder was begun.
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
