"""The base class of executors that train each pack (runs that train together) as a task.

The base class submits tasks, waits for them, retries them and cancels them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from noisescale.sweeps.folder import CHECKPOINTS
from noisescale.sweeps.jobs import Job, Outcome, Retry, failed_outcome, halve_runs_at_once, unstarted_outcome
from noisescale.sweeps.watchdog import Watchdog


class WorkerDied(Exception):
    """The worker of a pack ended without an outcome.

    Args:
        reason: What happened, as text for the log.
        memory_suspected: True if the system may have killed the worker for its memory.
    """

    def __init__(self, reason: str, memory_suspected: bool) -> None:
        super().__init__(reason)
        self.memory_suspected = memory_suspected


class TaskExecutor(ABC):
    """Trains each pack as one task, on any machine that sees the sweep's folder.

    If the worker of a pack dies, the pack is submitted once more. If the worker dies again and memory may be the cause,
    the pack is submitted with half as many runs at once.

    Args:
        folder: The folder of the sweep.
        stuck_after: Seconds without a progress report after which a task is cancelled.
    """

    def __init__(self, folder: Path, stuck_after: float) -> None:
        self._running: dict[Any, Job] = {}
        self._watchdog = Watchdog(folder / CHECKPOINTS, stuck_after)
        self._stuck: set[Any] = set()
        self._suspended: set[str] = set()
        self._deaths: Counter[str] = Counter()

    @abstractmethod
    def max_tasks(self) -> int:
        """Return the largest number of tasks that may be unfinished at the same time."""

    def notes(self) -> list[str]:
        """Return notes for the user about where packs train."""
        return []

    def min_tasks(self) -> int:
        """Return the smallest number of tasks per submission, except for the last packs."""
        return 1

    @abstractmethod
    def submit(self, jobs: list[Job]) -> list[Any]:
        """Submit packs.

        Args:
            jobs: The packs.

        Returns:
            One hashable task per pack.
        """

    @abstractmethod
    def wait_for_ended(self, tasks: list[Any]) -> list[Any]:
        """Wait for at most about a second and return the tasks that have ended.

        Args:
            tasks: Submitted tasks.

        Returns:
            The tasks among them that have ended.
        """

    @abstractmethod
    def outcome(self, task: Any) -> Outcome:
        """Return the outcome of an ended task.

        Args:
            task: The task.

        Returns:
            The outcome of its pack.

        Raises:
            WorkerDied: The task gave no outcome.
            OSError: The results cannot be written on this machine.
        """

    def is_suspended(self, task: Any) -> bool:
        """Return whether the system has stopped a task that it will resume."""
        return False

    @abstractmethod
    def cancel(self, task: Any) -> None:
        """Cancel a task, which may be waiting or running."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            self.cancel(task)
        self._running.clear()

    def run(
        self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False, refresh: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome | Retry | None]:
        """Train packs. Yield each `Outcome` or `Retry` as soon as it exists, and None about once a second otherwise.

        Args:
            jobs: The packs to train, in this order.
            stop: Returns True when no further pack may start.
            refresh: Not called, because this method yields at least once a second.

        Yields:
            Outcomes, retries, or None.

        Raises:
            OSError: The results of a pack cannot be written on this machine.
        """
        waiting = deque(jobs)
        while self._running or (waiting and not stop()):
            free = self.max_tasks() - len(self._running)
            if waiting and free >= min(self.min_tasks(), len(waiting)) and not stop():
                self._submit_watched([waiting.popleft() for _ in range(min(free, len(waiting)))])
            done = self.wait_for_ended(list(self._running)) if self._running else []
            for task in done:
                yield self._settle(task, self._running.pop(task))
            self._cancel_stuck()
            if stop():
                yield from self._withdraw()
            if not done:
                yield None

    def _submit_watched(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._watchdog.watch(job.pack.pack_id)
        self._running.update(zip(self.submit(jobs), jobs, strict=True))

    def _settle(self, task: Any, job: Job) -> Outcome | Retry:
        """Return the outcome of a task that has ended, or submit its pack again and return the retry."""
        try:
            return self.outcome(task)
        except WorkerDied as error:
            stuck, death = task in self._stuck, error
        reason = f"its worker {self._watchdog.reason}" if stuck else str(death)
        self._deaths[job.pack.pack_id] += 1
        deaths = self._deaths[job.pack.pack_id]
        next_job: Job | None = job
        if deaths > 1:
            next_job = halve_runs_at_once(job) if death.memory_suspected and not stuck else None
        if next_job is not None:
            self._submit_watched([next_job])
            return Retry(job.pack.pack_id, reason, next_job.runs_at_once)
        last = "" if job.max_at_once is None else f", at last with {job.runs_at_once} runs at once"
        return failed_outcome(job, f"{reason}, {'twice' if deaths == 2 else f'{deaths} times'}{last}")

    def _cancel_stuck(self) -> None:
        tasks = {job.pack.pack_id: task for task, job in self._running.items() if task not in self._stuck}
        silent = set(self._watchdog.stuck(tasks))
        # Also those that were suspended at the last look, so that their time without a report counts from its end.
        self._suspended = {
            pack_id for pack_id in silent | (self._suspended & tasks.keys()) if self.is_suspended(tasks[pack_id])
        }
        for pack_id in self._suspended:
            self._watchdog.forgive(pack_id)
        for pack_id in silent - self._suspended:
            self._stuck.add(tasks[pack_id])
            self.cancel(tasks[pack_id])

    def _withdraw(self) -> Iterator[Outcome]:
        """Cancel tasks that have not started. Tasks in training pause by themselves at the deadline."""
        for task, job in list(self._running.items()):
            if not self._watchdog.has_started(job.pack.pack_id):
                del self._running[task]
                self.cancel(task)
                yield unstarted_outcome(job)
