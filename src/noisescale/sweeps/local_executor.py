"""The local executor: spawned workers, one pack each at a time, kept from stage to stage."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from noisescale.sweeps.jobs import Job, Outcome, Retry
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.task_executor import TaskExecutor, WorkerDied
from noisescale.sweeps.worker import start_worker, train_and_store


class LocalExecutor(TaskExecutor):
    """Worker processes of one machine, each in a place of its own, so that one that dies takes no other with it.

    Args:
        workers: Processes; a single one trains in this process, where nobody watches, unless on a GPU. On GPUs places
            take them in turn.
        folder: Of the sweep.
        stuck_after: Seconds without a sign of life, after which a worker is killed.
    """

    def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
        super().__init__(folder, stuck_after)
        self.workers = workers
        # A pool of one process a place.
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._places: dict[Future[Outcome], int] = {}

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        for place in list(self._pools):
            self._end(place, kill=kind is not None)

    def run(
        self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False, beat: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome | Retry | None]:
        """Run packs in order and yield what becomes of them as it comes, and None about once a second in between.

        Args:
            jobs: The packs to train, in this order.
            stop: Whether no further pack is to be begun.
            beat: Called now and then while a pack trains in this process.

        Raises:
            OSError: A shard cannot be written (a full disk).
        """
        if self.workers.count == 1 and self.workers.device == "cpu":
            yield from self._run_here(jobs, stop, beat)
        else:
            yield from super().run(jobs, stop, beat)

    def _run_here(self, jobs: Sequence[Job], stop: Callable[[], bool], beat: Callable[[], None]) -> Iterator[Outcome]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.workers.threads)
        torch.set_flush_denormal(True)
        try:
            for job in jobs:
                if stop():
                    return
                yield train_and_store(job, beat)
        finally:
            torch.set_num_threads(before)
            torch.set_flush_denormal(False)  # the caller's own arithmetic is none of ours

    def most(self) -> int:
        """As many as there are workers."""
        return self.workers.count

    def submit(self, jobs: list[Job]) -> list[Any]:
        """Give each pack to a worker that has none."""
        return [self._submit(job) for job in jobs]

    def _submit(self, job: Job) -> Future[Outcome]:
        place = min(set(range(self.workers.count)) - set(self._places.values()))
        if place not in self._pools:
            context, own = multiprocessing.get_context("spawn"), self.workers
            self._pools[place] = ProcessPoolExecutor(
                1, mp_context=context, initializer=start_worker, initargs=(own.threads, own.device, place)
            )
        # Submitting may start a worker, which inherits the mask: an interrupt is the driver's to handle, from the
        # worker's first moment on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            future = self._pools[place].submit(train_and_store, job)
        except BrokenProcessPool:  # its worker died while it had nothing to do
            self._end(place, kill=True)
            return self._submit(job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._places[future] = place
        return future

    def ended(self, tasks: list[Any]) -> list[Any]:
        """Those that have ended within a second."""
        done, _ = wait(tasks, timeout=1.0, return_when=FIRST_COMPLETED)
        return list(done)

    def answer(self, task: Any) -> Outcome:
        """A worker's outcome."""
        place = self._places.pop(task, None)
        try:
            outcome: Outcome = task.result()
        except (BrokenProcessPool, CancelledError):
            if place is not None:
                self._end(place, kill=True)
            raise WorkerDied("its worker process died (out of memory?)", by_memory=True) from None
        return outcome

    def cancel(self, task: Any) -> None:
        """Kill a worker in the middle of its pack, whose shard is written whole or not at all."""
        self._end(self._places.pop(task), kill=True)

    def _end(self, place: int, kill: bool) -> None:
        """Empty a place."""
        pool = self._pools.pop(place)
        if kill:  # there is no public way before Python 3.14
            for process in list((pool._processes or {}).values()):
                process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
