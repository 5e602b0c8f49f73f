"""The estimates that `noisescale sweep --dry-run` prints. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noisescale.store import Study
from noisescale.sweeps.cost import memory
from noisescale.sweeps.driver import required_runs
from noisescale.sweeps.executors import check_executor
from noisescale.sweeps.extensions import MIN_LADDER
from noisescale.sweeps.folder import as_plain, check_folder, continued_spec
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.grid_checks import MOST_RUNS, check_grid, check_size
from noisescale.sweeps.lock import check_system
from noisescale.sweeps.machine import Workers, choose_device
from noisescale.sweeps.measured_times import measure_packs
from noisescale.sweeps.plan import PackLimits, Plan
from noisescale.sweeps.price_runs import price_notes
from noisescale.sweeps.session import check_code, check_data, check_importable, model_sizes
from noisescale.sweeps.spec import SweepSpec
from noisescale.training import check_precision

# Size of the file with the results of a pack: bytes for each number in a run's curves, and further bytes for each run.
# Both are measured on the quickstart.
_BYTES_PER_NUMBER, _BYTES_PER_RUN = 8, 600

# Time in which a process imports this package and torch: the driver, and then its workers (benchmarks/estimates.py).
_PROCESS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class DryRun:
    """Estimates before a sweep runs.

    They do not include runs that the sweep may add later: further values where an optimum lies near an end of its
    ladder, longer budgets where training has not converged, and the cells that measure the price of a larger rate.
    `seconds_at_most` includes the further values and the longer budgets.

    Args:
        runs: Number of runs of the sweep.
        finished: Number of runs with a result in the folder.
        packs: Number of packs (sets of runs that train together) to train.
        steps: Number of training steps, summed over the runs to train.
        start: Time before the first step, in seconds: the checks of the spec, and the start of workers.
        seconds: Time on this machine's cores, in seconds, from the first steps of its packs.
        seconds_at_most: Time if every ladder and every budget is extended as far as the spec allows, in seconds.
        memory: Memory for the data and the packs in training, in bytes.
        disk: Disk space, in bytes.
        notes: What cannot be trained together and why, the notes of `Grid.notes` and of the module's checks, and why
            the runs do not include the price of a larger rate.
    """

    runs: int
    finished: int
    packs: int
    steps: int
    start: float
    seconds: float
    seconds_at_most: float
    memory: int
    disk: int
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the lines that the terminal shows."""
        yield f"runs      {self.runs} ({self.finished} finished)"
        yield f"packs     {self.packs} to train"
        yield f"steps     {self.steps:,} to train"
        more = f"; up to {self.start + self.seconds_at_most:.0f} s if all ladders and budgets are extended"
        whole = self.start + self.seconds
        yield f"time      about {whole:.0f} s" + (more if self.seconds_at_most > self.seconds else "")
        yield f"memory    about {self.memory / 1e6:.0f} MB for the data and packs in training"
        yield f"disk      about {self.disk / 1e6:.1f} MB"
        for note in self.notes:
            yield f"note      {note}"


def dry_run(
    spec: SweepSpec,
    out: str | Path,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    executor: str = "local",
    max_runs: int = MOST_RUNS,
    accept_changed_code: bool = False,
) -> DryRun:
    """Check a spec and its folder as `sweep` does, and estimate the cost of the missing runs.

    Args:
        spec: The spec to estimate.
        out: The folder of the sweep.
        jobs: Number of worker processes, as for `sweep`.
        threads: Number of threads of each worker, as for `sweep`.
        device: "auto", "cpu" or "cuda".
        executor: "local", "ray" or "slurm".
        max_runs: Largest number of runs of the grid, as for `sweep`.
        accept_changed_code: True accepts code that differs from that of the folder's runs, as for `sweep`.

    Returns:
        The estimates. The time is that of the first steps of some packs, which takes a few seconds.

    Raises:
        BadInput: `sweep` would refuse the spec or the folder.
    """
    began = time.perf_counter()
    check_system()
    check_executor(executor)
    device = choose_device(device, executor)
    workers = Workers.of(device, jobs, threads)
    check_importable(spec, executor, workers)
    check_precision(spec.training.precision, device)
    folder = Path(out)
    check_folder(folder, spec)
    spec = continued_spec(folder, spec)
    grid = Grid(spec)
    check_size(grid, max_runs)
    module_notes = check_grid(grid)
    check_data(folder, grid)
    check_code(folder, grid, accept=accept_changed_code)
    results = Study(folder, as_plain(spec)).finished()
    runs = {run.run_id: run for run in required_runs(grid, results)}
    finished = runs.keys() & set(results.run_id)
    missing = [run for run_id, run in runs.items() if run_id not in finished]
    sizes = model_sizes(grid, spec.grid.width)
    planned, new_packs = Plan(folder / "plan.jsonl").packs_for(missing, sizes, PackLimits.of(workers))
    packs = planned + new_packs
    data = grid.dataset(grid.label_noises[0])
    data_bytes = sum(part.nbytes for part in (data.x_train, data.x_validation, data.x_test))
    largest = sorted((memory(pack.runs, sizes[pack.runs[0].width]) for pack in packs), reverse=True)[: workers.count]
    start = time.perf_counter() - began + (_PROCESS_SECONDS if workers.count == 1 else 2 * _PROCESS_SECONDS)
    seconds, pack_notes = measure_packs(packs, grid, workers)
    total = max(sum(seconds) / workers.count, max(seconds, default=0.0))
    return DryRun(
        runs=len(runs),
        finished=len(finished),
        packs=len(packs),
        steps=sum(run.steps for run in missing),
        start=start if packs else 0.0,
        seconds=total,
        seconds_at_most=total * _largest_growth(grid),
        memory=sum(largest) + workers.count * data_bytes,
        disk=sum(_BYTES_PER_RUN + 7 * (run.evaluations + 1) * _BYTES_PER_NUMBER for run in missing),
        notes=(*pack_notes, *grid.notes(), *module_notes, *price_notes(grid, results, every=True)),
    )


def _largest_growth(grid: Grid) -> float:
    """Return by what factor extensions can multiply the work."""
    fit, training = grid.spec.fit, grid.spec.training
    rungs = max(len(grid.spec.grid.batch_size), len(getattr(grid.spec.grid, grid.spec.grid.rate_axis)))
    longer = 1 + 2 * fit.max_edge_rungs / rungs if fit.extend_edges and rungs >= MIN_LADDER else 1.0
    # Each extension trains every cell again with twice the budget.
    return longer * (2.0 ** (training.max_extensions + 1) - 1)
