"""Packs as jobs of a SLURM cluster, handed in as arrays by submitit."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import submitit

from noisescale.sweeps.jobs import Job, Outcome, lost
from noisescale.sweeps.remote import train_elsewhere, wall_clock

# Jobs of one array; clusters bound it, often at 1,001.
_ARRAY = 500
# A job may take so many times its pack's estimated time, and a start; its checkpoint keeps what a limit cuts off.
_PATIENCE, _START_MINUTES = 20, 30
# Seconds between two looks.
_LOOK = 1.0


class SlurmExecutor:
    """One job a pack; its worker needs the sweep's folder and nothing else.

    Logs are in `slurm/` of the sweep's folder. Without SLURM on this machine, or with NOISESCALE_SLURM=local in the
    environment, submitit's local executor stands in: processes of this machine.

    Arguments:
        workers: jobs at once where SLURM is not there. threads: CPUs of each. device: with "cuda" each has a GPU.
        folder: of the sweep, which every node must see under the same path. stuck_after: the cluster's own time limit
            of a job stands for it.
    """

    def __init__(self, workers: int, threads: int, device: str, folder: Path, stuck_after: float) -> None:
        self.threads, self.device = threads, device
        self._executor = submitit.AutoExecutor(folder.resolve() / "slurm", cluster=os.environ.get("NOISESCALE_SLURM"))
        self._most = _ARRAY if self._executor.cluster == "slurm" else workers
        self._running: dict[Any, Job] = {}

    def __enter__(self) -> SlurmExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        self._running.clear()

    def run(self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False) -> Iterator[Outcome | None]:
        """Train packs as jobs and yield their outcomes as they come, and None about once a second in between."""
        waiting = deque(jobs)
        while self._running or (waiting and not stop()):
            free = self._most - len(self._running)
            if waiting and free and not stop():
                self._submit([waiting.popleft() for _ in range(min(free, len(waiting)))])
            done = [task for task in self._running if task.done()]
            for task in done:
                yield self._outcome(task, self._running.pop(task))
            if not done:
                time.sleep(_LOOK)
                yield None

    def _submit(self, jobs: list[Job]) -> None:
        longest = max(job.pack.seconds for job in jobs)
        self._executor.update_parameters(
            name="noisescale", timeout_min=_START_MINUTES + int(_PATIENCE * longest / 60),
            cpus_per_task=self.threads, gpus_per_node=int(self.device == "cuda"),
        )  # fmt: skip
        with self._executor.batch():
            tasks = [self._executor.submit(train_elsewhere, job, self.threads, wall_clock(job.until)) for job in jobs]
        self._running.update(zip(tasks, jobs, strict=True))

    def _outcome(self, task: Any, job: Job) -> Outcome:
        error = task.exception()
        if error is not None:
            return lost(job, f"its job ended with {type(error).__name__}, see slurm/ in the sweep's folder")
        found: Outcome = task.result()
        return found
