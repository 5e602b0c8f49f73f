"""What executors have in common whose workers are elsewhere: hand packs in, look, begin again, cancel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from noisescale.sweeps.folder import CHECKPOINTS
from noisescale.sweeps.jobs import Job, Outcome, halved, lost, set_aside
from noisescale.sweeps.watchdog import Watchdog


class WorkerDied(Exception):
    """The worker of a pack ended without an answer.

    Arguments:
        why: in words. by_memory: whether it was killed for its memory, as far as that is known.
    """

    def __init__(self, why: str, by_memory: bool) -> None:
        super().__init__(why)
        self.by_memory = by_memory


class RemoteExecutor(ABC):
    """One task a pack, on whatever machine there is; its worker needs the sweep's folder and nothing else.

    A pack whose worker died is handed in once more, and then, where its memory may have been the cause, with half as
    many runs at once.

    Arguments:
        folder: of the sweep. stuck_after: seconds without a sign of life, after which a task is cancelled.
    """

    def __init__(self, folder: Path, stuck_after: float) -> None:
        self._running: dict[Any, Job] = {}
        self._watchdog = Watchdog(folder / CHECKPOINTS, stuck_after)
        self._stuck: set[Any] = set()
        self._again: set[str] = set()

    @abstractmethod
    def most(self) -> int:
        """Tasks that may be handed in at once."""

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
            WorkerDied: nothing.
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
    ) -> Iterator[Outcome | None]:
        """Train packs as tasks and yield their outcomes as they come, and None about once a second in between."""
        waiting = deque(jobs)
        while self._running or (waiting and not stop()):
            free = self.most() - len(self._running)
            if waiting and free > 0 and not stop():
                self._begin([waiting.popleft() for _ in range(min(free, len(waiting)))])
            done = self.ended(list(self._running)) if self._running else []
            for task in done:
                outcome = self._settle(task, self._running.pop(task))
                if outcome is not None:
                    yield outcome
            self._cancel_stuck()
            if stop():
                yield from self._take_back()
            if not done:
                yield None

    def _begin(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._watchdog.begin(job.pack.pack_id)
        self._running.update(zip(self.submit(jobs), jobs, strict=True))

    def _settle(self, task: Any, job: Job) -> Outcome | None:
        """The outcome of a task that has ended; None if its pack is handed in again."""
        try:
            return self.answer(task)
        except WorkerDied as died:
            stuck, why = task in self._stuck, died
        again: Job | None = job
        if job.pack.pack_id in self._again:
            again = halved(job) if why.by_memory and not stuck else None
        self._again.add(job.pack.pack_id)
        if again is not None:
            self._begin([again])
            return None
        said = f"its worker {self._watchdog.verdict}, twice" if stuck else str(why)
        return lost(job, said if job.together is None else f"{said}, at last with {job.at_once} runs at once")

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
                yield set_aside(job)
