"""Packs as jobs of a SLURM cluster, handed in as arrays by submitit."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from noisescale.errors import BadInput
from noisescale.sweeps.jobs import Job, Outcome
from noisescale.sweeps.remote import train_elsewhere, wall_clock
from noisescale.sweeps.remote_executor import RemoteExecutor, WorkerDied

# Jobs of one array; clusters bound it, often at 1,001.
_ARRAY = 500
# A job may take so many times its pack's estimated time, and a start; its checkpoint keeps what a limit cuts off.
_PATIENCE, _START_MINUTES = 20, 30
# Seconds between two looks.
_LOOK = 1.0


class SlurmExecutor(RemoteExecutor):
    """One job a pack.

    Logs are in `slurm/` of the sweep's folder. Without SLURM on this machine, or with NOISESCALE_SLURM=local in the
    environment, submitit's local executor stands in: processes of this machine.

    Arguments:
        workers: jobs at once where SLURM is not there. threads: CPUs of each. device: with "cuda" each has a GPU.
        folder: of the sweep, which every node must see under the same path. stuck_after: seconds without a sign of
            life, after which a job is cancelled.
    """

    def __init__(self, workers: int, threads: int, device: str, folder: Path, stuck_after: float) -> None:
        super().__init__(folder, stuck_after)
        self.threads, self.device = threads, device
        self._executor = submitit.AutoExecutor(folder.resolve() / "slurm", cluster=os.environ.get("NOISESCALE_SLURM"))
        self._most = _ARRAY if self._executor.cluster == "slurm" else workers

    def __enter__(self) -> SlurmExecutor:
        return self

    def most(self) -> int:
        """Jobs of one array, or workers."""
        return self._most

    def submit(self, jobs: list[Job]) -> list[Any]:
        """Hand packs in as one array.

        Raises:
            BadInput: SLURM does not take them.
        """
        longest = max(job.pack.seconds for job in jobs)
        self._executor.update_parameters(
            name="noisescale", timeout_min=_START_MINUTES + int(_PATIENCE * longest / 60),
            cpus_per_task=self.threads, gpus_per_node=int(self.device == "cuda"),
        )  # fmt: skip
        try:
            with self._executor.batch():
                return [
                    self._executor.submit(train_elsewhere, job, self.threads, wall_clock(job.until)) for job in jobs
                ]
        except FailedJobError as error:
            said = " ".join(str(error).split())[-300:]
            raise BadInput("--executor slurm", f"a cluster that takes an array of {len(jobs)} jobs", said) from None

    def ended(self, tasks: list[Any]) -> list[Any]:
        """Those that have ended; a second is waited where none has."""
        done = [task for task in tasks if task.done()]
        if not done:
            time.sleep(_LOOK)
        return done

    def answer(self, task: Any) -> Outcome:
        """A job's outcome."""
        error = task.exception()
        if error is not None:
            why = f"its job ended with {type(error).__name__}, see slurm/ in the sweep's folder"
            # Some clusters alone say which ends were the memory's; a limit or a person is none of them.
            raise WorkerDied(why, by_memory=not str(task.state).startswith(("TIMEOUT", "CANCELLED")))
        found: Outcome = task.result()
        return found

    def cancel(self, task: Any) -> None:
        """End a job."""
        task.cancel()
