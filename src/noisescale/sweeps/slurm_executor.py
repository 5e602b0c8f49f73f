"""Packs as jobs of a SLURM cluster, handed in as arrays by submitit."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from noisescale.errors import BadInput
from noisescale.sweeps.jobs import Job, Outcome
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.remote import train_elsewhere, wall_clock
from noisescale.sweeps.task_executor import TaskExecutor, WorkerDied

# Jobs of one array; clusters bound it, often at 1,001. When so many places of it are free the next are handed in: each
# call of sbatch costs a cluster as much as many jobs of one array.
_ARRAY, _TOGETHER = 500, 100
# A job may take so many times its pack's estimated time, and a start; its checkpoint keeps what a limit cuts off.
_PATIENCE, _START_MINUTES = 20, 30
# Seconds between two looks, and those after which a job that has ended without a result has none: file systems of
# clusters show what another machine wrote only after a while.
_LOOK, _RESULT_WITHIN = 1.0, 15.0


class SlurmExecutor(TaskExecutor):
    """One job a pack.

    Logs are in `slurm/` of the sweep's folder, each session's in a folder of its own. Without SLURM on this machine, or
    with NOISESCALE_SLURM=local in the environment, submitit's local executor stands in: processes of this machine.

    Args:
        workers: Jobs at once where SLURM is not there, and CPUs of each; on GPUs each has one.
        folder: Of the sweep, which every node must see under the same path.
        stuck_after: Seconds without a sign of life, after which a job is cancelled.

    Raises:
        BadInput: NOISESCALE_SLURM is something else.
    """

    def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
        super().__init__(folder, stuck_after)
        self.workers, self._folder = workers, folder
        self._cluster = os.environ.get("NOISESCALE_SLURM") or None
        if self._cluster not in (None, "local", "slurm"):
            raise BadInput("NOISESCALE_SLURM", "local or slurm, or nothing", repr(self._cluster))
        self._ended_at: dict[str, float] = {}

    def __enter__(self) -> SlurmExecutor:
        # Submitit reads what jobs answered as pickles, which execute what they hold: nothing that a study's folder
        # brought with it may lie where it looks.
        own = self._folder.resolve() / "slurm" / secrets.token_hex(8)
        own.mkdir(parents=True)
        self._executor = submitit.AutoExecutor(own, cluster=self._cluster)
        return self

    def _has_cluster(self) -> bool:
        return bool(self._executor.cluster == "slurm")

    def notes(self) -> list[str]:
        """That there is no cluster, where there is none."""
        count = self.workers.count
        return [] if self._has_cluster() else [f"no SLURM here: packs train in {count} processes of this machine"]

    def most(self) -> int:
        """Jobs of one array, or workers."""
        return _ARRAY if self._has_cluster() else self.workers.count

    def least(self) -> int:
        """So many that an array is worth it."""
        return _TOGETHER if self._has_cluster() else 1

    def submit(self, jobs: list[Job]) -> list[Any]:
        """Hand packs in as one array.

        Raises:
            BadInput: SLURM does not take them.
        """
        longest, threads = max(job.pack.seconds for job in jobs), self.workers.threads
        self._executor.update_parameters(
            name="noisescale", timeout_min=_START_MINUTES + int(_PATIENCE * longest / 60),
            cpus_per_task=threads, gpus_per_node=int(self.workers.device == "cuda"),
        )  # fmt: skip
        try:
            with self._executor.batch():
                return [self._executor.submit(train_elsewhere, job, threads, wall_clock(job.until)) for job in jobs]
        except FailedJobError as error:
            said = " ".join(str(error).split())[-300:]
            raise BadInput("--executor slurm", f"a cluster that takes an array of {len(jobs)} jobs", said) from None

    def ended(self, tasks: list[Any]) -> list[Any]:
        """Those that have ended; a second is waited where none has."""
        done = [task for task in tasks if task.done() and self._has_answered(task)]
        if not done:
            time.sleep(_LOOK)
        return done

    def _has_answered(self, task: Any) -> bool:
        """Whether the result of a job that has ended is there, or is waited for no longer."""
        if task.paths.result_pickle.exists():
            return True
        since = self._ended_at.setdefault(task.job_id, time.monotonic())
        return time.monotonic() - since > (_RESULT_WITHIN if self._has_cluster() else _LOOK)

    def answer(self, task: Any) -> Outcome:
        """A job's outcome."""
        where = f"see {task.paths.stderr.relative_to(self._folder.resolve())} in the sweep's folder"
        # Some clusters alone say which ends were the memory's; a limit or a person is none of them.
        by_memory = not str(task.state).startswith(("TIMEOUT", "CANCELLED"))
        if not task.paths.result_pickle.exists():
            raise WorkerDied(f"its job ended without a result, {where}", by_memory)
        error = task.exception()
        if error is not None:
            raise WorkerDied(f"its job ended with {type(error).__name__}, {where}", by_memory)
        found: Outcome = task.result()
        return found

    def cancel(self, task: Any) -> None:
        """End a job; one that is gone already is no error."""
        with contextlib.suppress(OSError):
            task.cancel(check=False)
