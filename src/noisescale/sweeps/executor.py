"""The local executor: spawned workers, one pack each at a time, kept from stage to stage."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType

import torch

from noisescale.sweeps.folder import CHECKPOINTS
from noisescale.sweeps.jobs import Job, Outcome, halved, lost
from noisescale.sweeps.watchdog import Watchdog
from noisescale.sweeps.worker import start_worker, train_and_store


class LocalExecutor:
    """Worker processes of one machine.

    Arguments:
        workers: processes; 1 trains in this process, where nobody watches, unless on a GPU. threads: of each worker.
        device: with "cuda" workers take the GPUs in turn. folder: of the sweep. stuck_after: seconds without a sign of
            life, after which a worker is killed.
    """

    def __init__(self, workers: int, threads: int, device: str, folder: Path, stuck_after: float) -> None:
        self.workers, self.threads, self.device = workers, threads, device
        self._watchdog = Watchdog(folder / CHECKPOINTS, stuck_after)
        self._stuck: set[str] = set()
        self._pool: ProcessPoolExecutor | None = None
        self._stop: Callable[[], bool] = lambda: False

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(kill=kind is not None)

    def run(
        self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False, beat: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome | None]:
        """Run packs in order and yield their outcomes as they come, and None about once a second in between.

        A worker that dies takes the pool with it, and one that gives no sign of life is killed. The packs that were in
        training then run again, each alone; the one whose worker dies again is the cause, most often its memory: it is
        halved, some times at most, before its outcome says so.

        Arguments:
            stop: whether no further pack is to be begun. beat: called now and then while a pack trains in this process.
        Raises:
            OSError: a shard cannot be written (a full disk).
        """
        self._stop = stop
        if self.workers == 1 and self.device == "cpu":
            yield from self._run_here(jobs, beat)
            return
        waiting = deque(jobs)
        while waiting and not stop():
            suspects = yield from self._run_pool(waiting, self.workers)
            for job in suspects:
                yield from self._run_alone(job)

    def _run_alone(self, job: Job) -> Iterator[Outcome | None]:
        again: Job | None = job
        while again is not None:
            if not (yield from self._run_pool(deque([again]), 1)):
                return
            job, again = again, None if job.pack.pack_id in self._stuck else halved(again)
        yield self._lost(job)

    def _run_here(self, jobs: Sequence[Job], beat: Callable[[], None]) -> Iterator[Outcome]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(True)
        try:
            for job in jobs:
                if self._stop():
                    return
                yield train_and_store(job, beat)
        finally:
            torch.set_num_threads(before)
            torch.set_flush_denormal(False)  # the caller's own arithmetic is none of ours

    def _run_pool(self, waiting: deque[Job], most: int) -> Generator[Outcome | None, None, list[Job]]:
        """Run jobs, at most so many at once, and return those in training when a worker died, [] when all is done."""
        running: dict[Future[Outcome], Job] = {}
        suspects: list[Job] = []
        while running or (waiting and not suspects and not self._stop()):
            while waiting and len(running) < most and not suspects and not self._stop():
                job = waiting.popleft()
                self._watchdog.begin(job.pack.pack_id)
                self._stuck.discard(job.pack.pack_id)
                running[self._submit(job)] = job
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    suspects.append(job)
                else:
                    yield outcome
            if stuck := self._watchdog.stuck(job.pack.pack_id for job in running.values()):
                self._stuck.update(stuck)
                self._kill()
            if not done:
                yield None
        if suspects:
            self._close(kill=True)
        return suspects

    def _submit(self, job: Job) -> Future[Outcome]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            arguments = (self.threads, self.device, context.Value("i", 0))
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=start_worker, initargs=arguments
            )
        # Submitting may start a worker, which inherits the mask: an interrupt is the driver's to handle, from the
        # worker's first moment on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(train_and_store, job)
        except BrokenProcessPool:  # a worker died while it had nothing to do
            self._close(kill=True)
            return self._submit(job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _close(self, kill: bool) -> None:
        if self._pool is None:
            return
        if kill:
            self._kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def _kill(self) -> None:
        """No public way stops a worker in the middle of a pack; its shard is written whole or not at all."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()

    def _lost(self, job: Job) -> Outcome:
        if job.pack.pack_id in self._stuck:
            return lost(job, f"its worker {self._watchdog.verdict}, twice")
        last = "" if job.together is None else f", at last with {job.at_once} runs at once"
        return lost(job, f"its worker process died whenever it was begun{last}: out of memory?")
