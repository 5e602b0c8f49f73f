"""Training of packs (runs that train together) as jobs of a SLURM cluster, which submitit submits in arrays."""

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
from noisescale.sweeps.remote import to_wall_clock, train_elsewhere
from noisescale.sweeps.task_executor import TaskExecutor, WorkerDied

# Largest number of jobs in the queue, because clusters limit arrays, often to 1,001 jobs.
_MAX_ARRAY = 500
# Number of jobs that must have ended before the next array is submitted, because one call of sbatch costs a cluster as
# much as many jobs of an array.
_MIN_FREE = 100
# The time limit of a job is _TIME_FACTOR times the pack's estimated time, plus _START_MINUTES. If a job exceeds the
# limit, a checkpoint keeps its work.
_TIME_FACTOR, _START_MINUTES = 20, 30
# Seconds between two polls.
_POLL_SECONDS = 1.0
# Seconds after the end of a job within which its result must appear. File systems of clusters may show a file of
# another machine only after some seconds.
_RESULT_SECONDS = 15.0


class SlurmExecutor(TaskExecutor):
    """Trains each pack as one SLURM job.

    Logs are in `slurm/` of the sweep's folder, with one subfolder per session. Without SLURM on this machine, or with
    NOISESCALE_SLURM=local in the environment, submitit's local executor runs the jobs as processes of this machine.

    Args:
        workers: Number of jobs at once (only without SLURM), CPUs per job, and device. With the device "cuda" each job
            gets one GPU.
        folder: The folder of the sweep. Every node must see it under the same path.
        stuck_after: Seconds without a progress report after which a job is cancelled.

    Raises:
        BadInput: NOISESCALE_SLURM has an unknown value.
    """

    def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
        super().__init__(folder, stuck_after)
        self.workers, self._folder = workers, folder
        self._cluster = os.environ.get("NOISESCALE_SLURM") or None
        if self._cluster not in (None, "local", "slurm"):
            raise BadInput("NOISESCALE_SLURM", "local or slurm, or nothing", repr(self._cluster))
        self._ended_at: dict[str, float] = {}

    def __enter__(self) -> SlurmExecutor:
        # Submitit reads results as pickles, which can execute code. A new folder with a random name cannot hold files
        # that came with a downloaded study.
        session = self._folder.resolve() / "slurm" / secrets.token_hex(8)
        session.mkdir(parents=True)
        self._executor = submitit.AutoExecutor(session, cluster=self._cluster)
        return self

    def _has_cluster(self) -> bool:
        return bool(self._executor.cluster == "slurm")

    def notes(self) -> list[str]:
        """Return a note that packs train on this machine, if there is no cluster."""
        count = self.workers.count
        return (
            [] if self._has_cluster() else [f"SLURM is not available: packs train in {count} processes of this machine"]
        )

    def max_tasks(self) -> int:
        """Return the largest number of jobs in the queue, or the number of workers without a cluster."""
        return _MAX_ARRAY if self._has_cluster() else self.workers.count

    def min_tasks(self) -> int:
        """Return the smallest number of jobs per array."""
        return _MIN_FREE if self._has_cluster() else 1

    def submit(self, jobs: list[Job]) -> list[Any]:
        """Submit packs as one array.

        Args:
            jobs: The packs.

        Returns:
            One task per pack.

        Raises:
            BadInput: SLURM refuses the array.
        """
        longest, threads = max(job.pack.seconds for job in jobs), self.workers.threads
        self._executor.update_parameters(
            name="noisescale", timeout_min=_START_MINUTES + int(_TIME_FACTOR * longest / 60),
            cpus_per_task=threads, gpus_per_node=int(self.workers.device == "cuda"),
        )  # fmt: skip
        try:
            with self._executor.batch():
                return [
                    self._executor.submit(train_elsewhere, job, threads, to_wall_clock(job.deadline)) for job in jobs
                ]
        except FailedJobError as error:
            reason = " ".join(str(error).split())[-300:]
            raise BadInput("--executor slurm", f"a cluster that accepts an array of {len(jobs)} jobs", reason) from None

    def wait_for_ended(self, tasks: list[Any]) -> list[Any]:
        """Return the tasks that have ended. If there are none, wait for a second first."""
        done = [task for task in tasks if task.done() and self._has_outcome(task)]
        if not done:
            time.sleep(_POLL_SECONDS)
        return done

    def _has_outcome(self, task: Any) -> bool:
        """Return whether an ended job has a result, or ended so long ago that none will appear."""
        if task.paths.result_pickle.exists():
            return True
        since = self._ended_at.setdefault(task.job_id, time.monotonic())
        return time.monotonic() - since > (_RESULT_SECONDS if self._has_cluster() else _POLL_SECONDS)

    def outcome(self, task: Any) -> Outcome:
        """Return the outcome of a job."""
        log = f"see {task.paths.stderr.relative_to(self._folder.resolve())} in the sweep's folder"
        # Only some clusters report that a job ran out of memory, but all report cancellations and time limits.
        memory_suspected = not str(task.state).startswith(("TIMEOUT", "CANCELLED"))
        if not task.paths.result_pickle.exists():
            raise WorkerDied(f"its job ended without a result, {log}", memory_suspected)
        error = task.exception()
        if error is not None:
            raise WorkerDied(f"its job ended with {type(error).__name__}, {log}", memory_suspected)
        result: Outcome = task.result()
        return result

    def is_suspended(self, task: Any) -> bool:
        """Return whether the cluster has suspended a job, e.g. for one of higher priority."""
        return str(task.state).startswith("SUSPENDED")

    def cancel(self, task: Any) -> None:
        """End a job. Do nothing if it has ended."""
        with contextlib.suppress(OSError):
            task.cancel(check=False)
