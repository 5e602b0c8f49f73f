"""The work of one worker process: train a pack (runs that train together), store its results, report the outcome."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

import torch

from noisescale.errors import one_line
from noisescale.store import write_shard
from noisescale.sweeps.jobs import Job, Outcome
from noisescale.sweeps.model_warnings import collect_warnings
from noisescale.sweeps.train_pack import train_pack
from noisescale.sweeps.watchdog import AliveFile
from noisescale.user_code import contained


def start_worker(threads: int, device: str, slot: int) -> None:
    """Set the threads and the GPU of a worker process, and make it exit when its driver exits for any reason.

    Args:
        threads: Number of threads of the worker.
        device: "cpu" or "cuda".
        slot: Number of the worker on this machine, from 0. Slots are assigned to GPUs in turn.
    """
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.cuda.set_device(slot % torch.cuda.device_count())
    # Softmax outputs of networks that fit their data become subnormal numbers, which slow every product. Round these
    # numbers to zero.
    torch.set_flush_denormal(True)
    driver = multiprocessing.parent_process()
    assert driver is not None
    # The function itself, because `contained` replaces the name while code of the user runs.
    hard_exit = os._exit

    def end_with_driver() -> None:
        driver.join()
        hard_exit(1)

    threading.Thread(target=end_with_driver, daemon=True).start()


def train_and_store(job: Job, refresh: Callable[[], None] = lambda: None) -> Outcome:
    """Train one pack and write its results to a file, the shard. An error in training is an outcome, not an exception.

    Args:
        job: The pack to train.
        refresh: Called after every slice of training.

    Returns:
        The outcome of the pack.

    Raises:
        OSError: The results cannot be written. The same fault would affect the results of every other pack.
    """
    pack, alive_file = job.pack, AliveFile(job.checkpoints, job.pack.pack_id)
    alive_file.write()

    def report_progress(before: float, now: float) -> None:
        alive_file.write(before, now)
        refresh()

    with collect_warnings() as collected:
        try:
            with contained():
                trained = train_pack(job, report_progress)
        except Exception as error:  # an error in the user's model must not end the sweep
            return Outcome(pack.pack_id, len(pack.runs), 0, {}, one_line(error), warnings=collected)
        finally:
            alive_file.remove()
    if trained.paused:
        return Outcome(pack.pack_id, len(pack.runs), 0, {}, note=trained.note, paused=True, warnings=collected)
    start = time.perf_counter()
    write_shard(job.shards, pack.pack_id, trained.results, job.code_digest)
    trained.discard_checkpoints()
    seconds = {**trained.seconds, "storing": time.perf_counter() - start}
    diverged = sum(result.status == "diverged" for result in trained.results)
    return Outcome(pack.pack_id, len(trained.results), diverged, seconds, note=trained.note, warnings=collected)
