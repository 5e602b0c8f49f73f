"""The function `sweep`, which trains the runs that a folder lacks."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from noisescale.datasets import load_dataset
from noisescale.errors import BadInput
from noisescale.input_shapes import InputShape, NamedShapes, vocabulary_of
from noisescale.named_inputs import wide
from noisescale.store import (
    MODEL,
    SHARDS,
    Study,
    codes_of_shards,
    data_of_shards,
    move_damaged_shards,
    read_failures,
    record_times,
    write_atomically,
)
from noisescale.sweeps.code_identity import CODE, CodeIdentity, accepted_identity, read_identities, write_identities
from noisescale.sweeps.cost import ModelSize, measure_size
from noisescale.sweeps.driver import Driver, JobLimits
from noisescale.sweeps.executors import build_executor, check_executor
from noisescale.sweeps.folder import (
    DAMAGED,
    check_folder,
    continued_spec,
    create_folder,
    prepare_folder,
)
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.grid_checks import MOST_RUNS, check_grid, check_size
from noisescale.sweeps.lock import check_system, driver_lock
from noisescale.sweeps.machine import Workers, choose_device
from noisescale.sweeps.plan_file import planned_data
from noisescale.sweeps.spec import SweepSpec
from noisescale.sweeps.spec_fields import SpecFields
from noisescale.sweeps.watchdog import STUCK_AFTER
from noisescale.training import check_precision
from noisescale.user_code import is_only_in_this_process


def sweep(
    spec: SweepSpec,
    out: str | Path,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    executor: str = "local",
    compile: bool = False,
    max_seconds: float | None = None,
    max_pack_seconds: float | None = None,
    stuck_after: float = STUCK_AFTER,
    accept_changed_code: bool = False,
    max_runs: int = MOST_RUNS,
    quiet: bool = False,
) -> Study:
    """Train every run that a spec requires and that has no result in the folder yet.

    The first round trains the grid and the stability ladders, which are short runs at increasing rates. Further rounds
    train the runs that the results require: rates between the rates of the stability ladders, further values where an
    optimum lies near an end of its ladder, longer budgets, and the cells that measure the price of a larger rate. A
    finished run never trains again, and its results are always kept.

    Args:
        spec: The spec of the sweep.
        out: The folder of the sweep. A new folder is created; an existing sweep continues.
        jobs: Number of worker processes, at most one per core. Default: one per GPU, or one per core without a GPU.
        threads: Number of threads of each worker. Default: OMP_NUM_THREADS; without it, 1 if `jobs` is given, else the
            cores of each worker.
        device: "auto", "cpu" or "cuda".
        executor: "local", "ray" or "slurm".
        compile: True asks for `torch.compile`. Results are valid without it.
        max_seconds: Seconds after which packs in training pause. The next call continues them.
        max_pack_seconds: Seconds of training after which a pack (a set of runs that train together) fails. Its
            checkpoint stays, and a call with a longer limit continues from it.
        stuck_after: Seconds without a progress report after which a worker process is killed and its pack starts once
            more.
        accept_changed_code: True continues a folder whose runs other code trained. Laws are then fitted to the runs of
            each code apart.
        max_runs: Largest number of runs of the grid.
        quiet: True suppresses the display of progress.

    Returns:
        The study. `failures(out)` lists failed packs; diverged runs are results.

    Raises:
        BadInput: The spec, the data, the model or the folder cannot be used. Nothing is written.
        OSError: The disk is full. The results of finished packs are kept.
    """
    _refuse_unguarded_script()
    check_system()
    start = time.perf_counter()
    deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
    folder = Path(out).absolute()  # code of the user may change the working folder
    check_executor(executor)
    device = choose_device(device, executor)
    workers = Workers.of(device, jobs, threads)
    check_importable(spec, executor, workers)
    chosen_executor = build_executor(executor, workers, folder.absolute(), stuck_after)
    check_precision(spec.training.precision, device)
    check_folder(folder, spec)
    spec = continued_spec(folder, spec)
    grid = Grid(spec)
    check_size(grid, max_runs)
    module_notes = check_grid(grid)
    check_data(folder, grid)
    check_code(folder, grid, accept=accept_changed_code)
    sizes = model_sizes(grid, spec.grid.width)
    create_folder(folder)
    with driver_lock(folder):
        prepare_folder(folder, spec)
        # Another sweep may have recorded other code while this one waited.
        code = check_code(folder, grid, accept=accept_changed_code)
        record_data(folder, grid)
        write_atomically(folder / MODEL, lambda file: file.write(grid.accepted_batches.text().encode()))
        _record_code(folder, code)
        time_limits = JobLimits(deadline, math.inf if max_pack_seconds is None else max_pack_seconds, stuck_after)
        driver = Driver(
            grid, sizes, folder, chosen_executor, workers, time_limits, code=code, compile=compile, quiet=quiet
        )
        capped = executor == "local" and jobs is not None and jobs > workers.count
        jobs_notes = [f"--jobs {jobs}: {workers.count} workers, at most one per core"] if capped else []
        for note in (*grid.notes(), *module_notes, *jobs_notes, *_move_damaged(folder)):
            driver.note(note)
        driver.run()
        record_times(folder, "sweep", {**driver.seconds, "wall": time.perf_counter() - start})
    return Study.open(folder)


def _refuse_unguarded_script() -> None:
    """Refuse a script without a main guard. Every worker imports the script, which would start the sweep again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        required = "`if __name__ == '__main__':` around the call, because workers import the script"
        raise BadInput("a script that calls sweep()", required, "a call at the script's top level")


def check_importable(spec: SpecFields, executor: str, workers: Workers) -> None:
    """Check that workers can import the user's code, if other processes train.

    Args:
        spec: The spec.
        executor: "local", "ray" or "slurm".
        workers: The workers of this machine.

    Raises:
        BadInput: The code is defined in this process only.
    """
    here = executor == "local" and workers.count == 1 and workers.device == "cpu"
    for key, name in (("model.family", spec.model.family), ("dataset.name", spec.dataset.name)):
        if not here and ":" in name and is_only_in_this_process(name.partition(":")[0]):
            required = "a function in a file that worker processes can import, or one worker (jobs=1)"
            raise BadInput(key, required, f"{name}, which is defined in this session only")


def failures(folder: str | Path) -> dict[str, str]:
    """List the packs that failed at their last attempt.

    Args:
        folder: The folder of the sweep.

    Returns:
        Errors by pack id.
    """
    return {pack_id: failure.error for pack_id, failure in read_failures(Path(folder)).items()}


def model_sizes(grid: Grid, widths: Iterable[int]) -> dict[int, ModelSize]:
    """Measure the sizes of the model and the data that determine the cost of packs.

    Args:
        grid: The spec's grid.
        widths: Widths to measure.

    Returns:
        Sizes by width.
    """
    data = grid.dataset(grid.label_noises[0])
    examples = len(data.x_train) + len(data.x_validation) + len(data.x_test)
    sizes = {}
    for width in widths:
        module = grid.factory(width, data.input_shape, data.num_classes)
        sizes[width] = measure_size(module, wide(data.x_train[:2]), examples)
    return sizes


def _move_damaged(folder: Path) -> list[str]:
    """Move damaged files of results to another folder, so that their runs train again, and return a note for each."""
    names = move_damaged_shards(folder / SHARDS, folder / DAMAGED)
    return [f"{SHARDS}/{name} is damaged: moved to {DAMAGED}/; its runs train again" for name in names]


def check_data(folder: Path, grid: Grid) -> None:
    """Check that the data is unchanged, because all runs of a folder must train on the same arrays.

    Args:
        folder: The folder of the sweep.
        grid: The spec's grid.

    Raises:
        BadInput: The data set has changed since the folder was created, or a user's function returns other values at
            every call.
    """
    # The plan also knows the data of runs that have not finished, but it may have been removed.
    shards, planned = data_of_shards(folder / SHARDS), planned_data(folder / "plan.jsonl")
    digests = {noise: shards.get(noise, set()) | planned.get(noise, set()) for noise in {**shards, **planned}}
    for noise in grid.label_noises:
        if not digests.get(noise, set()) <= {data.hash for data in grid.datasets(noise)}:
            name = f"dataset {grid.spec.dataset.name}"
            raise BadInput(name, "the arrays with which this folder was created; use another --out", "other values")
    first = grid.label_noises[0]
    if first not in digests and ":" in grid.spec.dataset.name:
        # Every worker calls the function.
        if load_dataset(grid.options_at(first, grid.train_sizes[-1])).hash != grid.dataset(first).hash:
            required = "a function that returns the same values at every call, e.g. from np.random.default_rng(0)"
            raise BadInput("dataset.name", required, f"other values at the second call of {grid.spec.dataset.name}")


def check_code(folder: Path, grid: Grid, *, accept: bool = False) -> CodeIdentity | None:
    """Return the identity of the user's code. None if the spec names none.

    Args:
        folder: The folder of the sweep.
        grid: The spec's grid.
        accept: Whether code may differ from that of the folder's runs.

    Raises:
        BadInput: The code has changed since the folder's last runs, and `accept` is false.
    """
    if not grid.user_code:
        return None
    known = read_identities(folder)
    foreign = [identity.width for identity in known if identity.width not in grid.spec.grid.width]
    if foreign:
        raise BadInput(str(folder / CODE), "modules of the widths of the spec", f"width {foreign[0]}")
    if not known and (stored := codes_of_shards(folder / SHARDS)):
        # The grid may have grown to narrower widths since the code was recorded.
        for width in grid.spec.grid.width:
            if (code := grid.code_at(width)).digest in stored:
                return code
        if not accept:
            required = f"the record of the code that trained the runs of this folder ({CODE}), or --accept-changed-code"
            raise BadInput(str(folder), required, "other code")
    return accepted_identity(known, grid.code_at, min(grid.spec.grid.width), accept=accept)


def _record_code(folder: Path, code: CodeIdentity | None) -> None:
    known = read_identities(folder)
    if code is not None and code not in known:
        write_identities(folder, [*known, code])


def _recorded(shape: InputShape) -> dict[str, Any]:
    """Return what a file records of a shape."""
    if isinstance(shape, NamedShapes):
        return {"inputs": {name: {**_recorded(part), "holds": shape.kinds[name]} for name, part in shape.items()}}
    vocabulary = vocabulary_of(shape)
    return {"input_shape": list(shape), **({} if vocabulary is None else {"vocabulary": vocabulary})}


def record_data(folder: Path, grid: Grid) -> None:
    """Store what a model factory needs to build a model for this data, and the digests that runs on it have.

    Args:
        folder: The folder of the sweep.
        grid: The spec's grid.
    """
    data = grid.dataset(grid.label_noises[0])
    shapes: dict[str, Any] = {"name": data.name, **_recorded(data.input_shape), "num_classes": data.num_classes}
    if data.entropy is not None:
        shapes["entropy"] = data.entropy
    digests = {noise: [data.hash for data in grid.datasets(noise)] for noise in grid.label_noises}
    text = json.dumps({**shapes, "digests": digests})
    write_atomically(folder / "data.json", lambda file: file.write(text.encode()))
