"""The local executor: worker processes that train one pack at a time and stay alive between rounds."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import torch

from noisescale.sweeps.jobs import Job, Outcome, Retry
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.task_executor import TaskExecutor, WorkerDied
from noisescale.sweeps.worker import start_worker, train_and_store


class LocalExecutor(TaskExecutor):
    """Trains packs in worker processes of this machine.

    Each worker has a separate process pool, because the death of a process breaks all processes of its pool.

    Args:
        workers: Number and threads of the worker processes. A single CPU worker trains in this process, without a
            watchdog.
        folder: The folder of the sweep.
        stuck_after: Seconds without a progress report after which a worker is killed.
    """

    def __init__(self, workers: Workers, folder: Path, stuck_after: float) -> None:
        super().__init__(folder, stuck_after)
        self.workers = workers
        # Pools of one process, by slot (the number of the worker).
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._slots: dict[Future[Outcome], int] = {}

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        # At once, because the end of a process that has imported torch takes a second.
        enders = [Thread(target=self._empty, args=(slot, kind is not None)) for slot in list(self._pools)]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def run(
        self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False, refresh: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome | Retry | None]:
        """Train packs. Yield each `Outcome` or `Retry` as soon as it exists, and None about once a second otherwise.

        Args:
            jobs: The packs to train, in this order.
            stop: Returns True when no further pack may start.
            refresh: Called after every slice of training in this process.

        Yields:
            Outcomes, retries, or None.

        Raises:
            OSError: The results of a pack cannot be written (a full disk).
        """
        if self.workers.count == 1 and self.workers.device == "cpu":
            yield from self._run_here(jobs, stop, refresh)
        else:
            yield from super().run(jobs, stop, refresh)

    def _run_here(
        self, jobs: Sequence[Job], stop: Callable[[], bool], refresh: Callable[[], None]
    ) -> Iterator[Outcome]:
        caller_threads = torch.get_num_threads()
        torch.set_num_threads(self.workers.threads)
        torch.set_flush_denormal(True)
        try:
            for job in jobs:
                if stop():
                    return
                yield train_and_store(job, refresh)
        finally:
            torch.set_num_threads(caller_threads)
            torch.set_flush_denormal(False)  # restore the caller's arithmetic

    def max_tasks(self) -> int:
        """Return the number of workers."""
        return self.workers.count

    def submit(self, jobs: list[Job]) -> list[Any]:
        """Give each pack to an idle worker."""
        return [self._submit(job) for job in jobs]

    def _submit(self, job: Job) -> Future[Outcome]:
        slot = min(set(range(self.workers.count)) - set(self._slots.values()))
        if slot not in self._pools:
            context, workers = multiprocessing.get_context("spawn"), self.workers
            self._pools[slot] = ProcessPoolExecutor(
                1, mp_context=context, initializer=start_worker, initargs=(workers.threads, workers.device, slot)
            )
        # Submitting may start a worker process, which inherits the signal mask. Interrupts are blocked in the mask,
        # because only the driver may handle them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            future = self._pools[slot].submit(train_and_store, job)
        except BrokenProcessPool:  # the worker died while it was idle
            self._empty(slot, kill=True)
            return self._submit(job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._slots[future] = slot
        return future

    def wait_for_ended(self, tasks: list[Any]) -> list[Any]:
        """Wait for at most a second and return the tasks that have ended."""
        done, _ = wait(tasks, timeout=1.0, return_when=FIRST_COMPLETED)
        return list(done)

    def outcome(self, task: Any) -> Outcome:
        """Return the outcome of a worker's pack."""
        slot = self._slots.pop(task, None)
        try:
            outcome: Outcome = task.result()
        except (BrokenProcessPool, CancelledError):
            if slot is not None:
                self._empty(slot, kill=True)
            raise WorkerDied("its worker process died (out of memory?)", memory_suspected=True) from None
        return outcome

    def cancel(self, task: Any) -> None:
        """Kill a worker during its pack. This is safe because results are written atomically."""
        self._empty(self._slots.pop(task), kill=True)

    def _empty(self, slot: int, kill: bool) -> None:
        """End the worker of a slot."""
        pool = self._pools.pop(slot)
        if kill:  # the public method is new in Python 3.14
            for process in list((pool._processes or {}).values()):
                process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
