"""What executors have in common: hand packs in, look, begin again, cancel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from noisescale.sweeps.folder import CHECKPOINTS
from noisescale.sweeps.jobs import Job, Outcome, Retry, halved, lost, not_begun
from noisescale.sweeps.watchdog import Watchdog


class WorkerDied(Exception):
    """The worker of a pack ended without an answer.

    Args:
        why: In words.
        by_memory: Whether it was killed for its memory, as far as that is known.
    """

    def __init__(self, why: str, by_memory: bool) -> None:
        super().__init__(why)
        self.by_memory = by_memory


class TaskExecutor(ABC):
    """One task a pack, wherever that is; its worker needs the sweep's folder and nothing else.

    A pack whose worker died is handed in once more, and then, where its memory may have been the cause, with half as
    many runs at once.

    Args:
        folder: Of the sweep.
        stuck_after: Seconds without a sign of life, after which a task is cancelled.
    """

    def __init__(self, folder: Path, stuck_after: float) -> None:
        self._running: dict[Any, Job] = {}
        self._watchdog = Watchdog(folder / CHECKPOINTS, stuck_after)
        self._stuck: set[Any] = set()
        self._deaths: Counter[str] = Counter()

    @abstractmethod
    def most(self) -> int:
        """Tasks that may be handed in at once."""

    def notes(self) -> list[str]:
        """What a user should know of where packs train."""
        return []

    def least(self) -> int:
        """Tasks that are handed in together, where so many packs wait."""
        return 1

    @abstractmethod
    def submit(self, jobs: list[Job]) -> list[Any]:
        """Hand packs in; one hashable task each."""

    @abstractmethod
    def ended(self, tasks: list[Any]) -> list[Any]:
        """Those of the tasks that have ended, after at most about a second."""

    @abstractmethod
    def answer(self, task: Any) -> Outcome:
        """What an ended task answered.

        Raises:
            WorkerDied: Nothing. OSError: its shard cannot be written on this machine.
        """

    @abstractmethod
    def cancel(self, task: Any) -> None:
        """End a task, begun or not."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            self.cancel(task)
        self._running.clear()

    def run(
        self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False, beat: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome | Retry | None]:
        """Train packs as tasks and yield what becomes of them as it comes, and None about once a second in between."""
        waiting = deque(jobs)
        while self._running or (waiting and not stop()):
            free = self.most() - len(self._running)
            if waiting and free >= min(self.least(), len(waiting)) and not stop():
                self._begin([waiting.popleft() for _ in range(min(free, len(waiting)))])
            done = self.ended(list(self._running)) if self._running else []
            for task in done:
                yield self._settle(task, self._running.pop(task))
            self._cancel_stuck()
            if stop():
                yield from self._take_back()
            if not done:
                yield None

    def _begin(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._watchdog.begin(job.pack.pack_id)
        self._running.update(zip(self.submit(jobs), jobs, strict=True))

    def _settle(self, task: Any, job: Job) -> Outcome | Retry:
        """The outcome of a task that has ended, or that its pack was handed in again."""
        try:
            return self.answer(task)
        except WorkerDied as died:
            stuck, why = task in self._stuck, died
        said = f"its worker {self._watchdog.verdict}" if stuck else str(why)
        self._deaths[job.pack.pack_id] += 1
        deaths = self._deaths[job.pack.pack_id]
        again: Job | None = job
        if deaths > 1:
            again = halved(job) if why.by_memory and not stuck else None
        if again is not None:
            self._begin([again])
            return Retry(job.pack.pack_id, said, again.at_once)
        last = "" if job.together is None else f", at last with {job.at_once} runs at once"
        return lost(job, f"{said}, {'twice' if deaths == 2 else f'{deaths} times'}{last}")

    def _cancel_stuck(self) -> None:
        tasks = {job.pack.pack_id: task for task, job in self._running.items() if task not in self._stuck}
        for pack_id in self._watchdog.stuck(tasks):
            self._stuck.add(tasks[pack_id])
            self.cancel(tasks[pack_id])

    def _take_back(self) -> Iterator[Outcome]:
        """Cancel what waits for a place; what is in training puts itself aside."""
        for task, job in list(self._running.items()):
            if not self._watchdog.has_begun(job.pack.pack_id):
                del self._running[task]
                self.cancel(task)
                yield not_begun(job)
