"""Packs as Ray tasks, on a cluster or on this machine."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError

from noisescale.sweeps.folder import CHECKPOINTS
from noisescale.sweeps.jobs import Job, Outcome, lost
from noisescale.sweeps.remote import train_elsewhere, wall_clock
from noisescale.sweeps.watchdog import Watchdog

# How often Ray runs a pack again whose worker or node died, or whose node ran out of memory.
_RETRIES = 3
# Tasks that wait for a place, for each that is in training: enough that none stands idle.
_WAITING = 2


class RayExecutor:
    """One Ray task a pack; its worker needs the sweep's folder and nothing else.

    The cluster is the one that the environment variable RAY_ADDRESS names; without it one is started on this machine,
    without a dashboard, and stopped at the end.

    Arguments:
        workers: packs at once on a cluster that is started here. threads: CPUs of each. device: with "cuda" each pack
            has a GPU. folder: of the sweep, which every node must see under the same path.
        stuck_after: seconds without a sign of life, after which a task is cancelled.
    """

    def __init__(self, workers: int, threads: int, device: str, folder: Path, stuck_after: float) -> None:
        self.workers, self.threads, self.device = workers, threads, device
        self._running: dict[Any, Job] = {}
        self._watchdog = Watchdog(folder / CHECKPOINTS, stuck_after)
        self._stuck: set[str] = set()
        self._began = False

    def __enter__(self) -> RayExecutor:
        # Without it Ray begins a task again for ever that its node's memory does not hold.
        os.environ.setdefault("RAY_task_oom_retries", str(_RETRIES))
        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            own: dict[str, Any] = (
                {} if address else {"num_cpus": self.workers * self.threads, "include_dashboard": False}
            )
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
            self._began = True
        # A user's model must be importable where the task runs; what is installed is, without a word.
        paths = [path or os.getcwd() for path in sys.path if not path.startswith((sys.prefix, sys.base_prefix))]
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}
        self._task = ray.remote(
            num_cpus=self.threads, num_gpus=int(self.device == "cuda"), max_retries=_RETRIES,
            runtime_env=environment,
        )(train_elsewhere)  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reference in self._running:
            ray.cancel(reference, force=True)
        self._running.clear()
        if self._began:
            ray.shutdown()

    def run(self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False) -> Iterator[Outcome | None]:
        """Train packs as tasks and yield their outcomes as they come, and None about once a second in between."""
        waiting = deque(jobs)
        while self._running or (waiting and not stop()):
            while waiting and len(self._running) < self._most() and not stop():
                job = waiting.popleft()
                self._running[self._task.remote(job, self.threads, wall_clock(job.until))] = job
            done, _ = ray.wait(list(self._running), timeout=1.0)
            for reference in done:
                yield self._outcome(reference, self._running.pop(reference))
            self._cancel_stuck()
            if not done:
                yield None

    def _most(self) -> int:
        resources: Callable[[], dict[str, float]] = ray.cluster_resources
        places = resources().get("GPU" if self.device == "cuda" else "CPU", 1.0)
        each = 1 if self.device == "cuda" else self.threads
        return _WAITING * max(1, int(places // each))

    def _cancel_stuck(self) -> None:
        by_id = {job.pack.pack_id: reference for reference, job in self._running.items()}
        for pack_id in self._watchdog.stuck(by_id.keys() - self._stuck):
            self._stuck.add(pack_id)
            ray.cancel(by_id[pack_id], force=True)

    def _outcome(self, reference: Any, job: Job) -> Outcome:
        try:
            found: Outcome = ray.get(reference)
        except OutOfMemoryError:
            return lost(job, "the memory of its node did not hold it, however often it was begun")
        except RayError as error:
            if job.pack.pack_id in self._stuck:
                return lost(job, f"its worker {self._watchdog.verdict}")
            return lost(job, f"its worker died {_RETRIES + 1} times: {type(error).__name__}")
        return found
