"""What one worker process does: train a pack, store its shard, say what it took."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

import torch

from noisescale.store import write_shard
from noisescale.sweeps.jobs import Job, Outcome
from noisescale.sweeps.train_pack import train_pack
from noisescale.sweeps.warned import hearing_warnings
from noisescale.sweeps.watchdog import LifeSign


def start_worker(threads: int, device: str, place: int) -> None:
    """Set a worker process up: its threads, its GPU, and an end when its driver ends, however that ends.

    Args:
        threads: Threads of the worker.
        device: "cpu" or "cuda".
        place: Its number among the workers of this machine; places take the GPUs in turn.
    """
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.cuda.set_device(place % torch.cuda.device_count())
    # Subnormal numbers arise in softmax tails of networks that fit their data, and slow every product they enter.
    torch.set_flush_denormal(True)
    driver = multiprocessing.parent_process()
    assert driver is not None

    def end_with_driver() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=end_with_driver, daemon=True).start()


def train_and_store(job: Job, beat: Callable[[], None] = lambda: None) -> Outcome:
    """Train one pack and write its shard; a failure in training is an outcome, not an exception.

    Args:
        job: The pack to train.
        beat: Called at every slice of training.

    Raises:
        OSError: The shard cannot be written; what stops this pack's shard would stop every other's.
    """
    pack, life = job.pack, LifeSign(job.checkpoints, job.pack.pack_id)
    life.give()

    def alive(before: float, now: float) -> None:
        life.give(before, now)
        beat()

    with hearing_warnings() as warned:
        try:
            trained = train_pack(job, alive)
        except Exception as error:  # whatever a user's model raises must not end the sweep
            line = str(error).strip().splitlines()
            why = f"{type(error).__name__}: {line[0] if line else ''}"
            return Outcome(pack.pack_id, len(pack.runs), 0, {}, why, warnings=warned)
        finally:
            life.end()
    if trained.paused:
        return Outcome(pack.pack_id, len(pack.runs), 0, {}, note=trained.note, paused=True, warnings=warned)
    began = time.perf_counter()
    write_shard(job.shards, pack.pack_id, trained.results)
    trained.discard_checkpoints()
    seconds = {**trained.seconds, "storing": time.perf_counter() - began}
    diverged = sum(result.status == "diverged" for result in trained.results)
    return Outcome(pack.pack_id, len(trained.results), diverged, seconds, note=trained.note, warnings=warned)
