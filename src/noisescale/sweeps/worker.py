"""What one worker process does: train a pack, store its shard, say what it took."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.errors import BadInput
from noisescale.families import ModelOptions, family_factory
from noisescale.store import write_shard
from noisescale.sweeps.grid import reference_width
from noisescale.sweeps.kernel_record import KernelRecord
from noisescale.sweeps.plan import Pack
from noisescale.training import PackTrainer


@dataclass(frozen=True, slots=True)
class Job:
    """One pack to train.

    Arguments:
        shards: the folder of shards. kernels: the folder of `KernelRecord`. compile: whether `torch.compile` is asked
            for.
    """

    pack: Pack
    options: DatasetOptions
    shards: Path
    kernels: Path
    device: str
    compile: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a pack.

    Arguments:
        error: one line, where it failed. seconds: by "training", "evaluation", "storing". note: what a user should know
            of how the runs were computed.
    """

    pack_id: str
    runs: int
    diverged: int
    seconds: dict[str, float]
    error: str | None = None
    note: str = ""


def start_worker(threads: int) -> None:
    """Set a worker process up: its threads, and an end when its driver ends, however that ends."""
    torch.set_num_threads(threads)
    # Subnormal numbers arise in softmax tails of networks that fit their data, and slow every product they enter.
    torch.set_flush_denormal(True)
    driver = multiprocessing.parent_process()
    assert driver is not None

    def end_with_driver() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=end_with_driver, daemon=True).start()


def train_and_store(job: Job) -> Outcome:
    """Train one pack and write its shard; a failure in training is an outcome, not an exception.

    Raises:
        OSError: the shard cannot be written; what stops this pack's shard would stop every other's.
    """
    pack = job.pack
    try:
        first = pack.runs[0]
        dataset = _dataset(job.options)
        if dataset.hash != first.dataset_hash:
            raise BadInput(f"dataset {first.dataset}", "the data that the sweep was planned with", "other values")
        record = KernelRecord(job.kernels, job.device, torch.get_num_threads())
        trainer = _trainer(job, dataset, record.known(first))
        note = trainer.note
        if trainer.measured and (choice := record.settle(first, trainer.choice)) != trainer.choice:
            trainer = _trainer(job, dataset, choice)
        trainer.advance()
        results = trainer.results()
    except Exception as error:  # whatever a user's model raises must not end the sweep
        line = str(error).strip().splitlines()
        return Outcome(pack.pack_id, len(pack.runs), 0, {}, f"{type(error).__name__}: {line[0] if line else ''}")
    began = time.perf_counter()
    write_shard(job.shards, pack.pack_id, results)
    seconds = {**trainer.state.seconds, "storing": time.perf_counter() - began}
    diverged = sum(result.status == "diverged" for result in results)
    return Outcome(pack.pack_id, len(results), diverged, seconds, note=note)


def _trainer(job: Job, dataset: Dataset, kernel: str) -> PackTrainer:
    first = job.pack.runs[0]
    return PackTrainer(
        job.pack.runs,
        dataset,
        family_factory(ModelOptions.of_run(first)),
        reference_width=reference_width(first.width),
        device=job.device,
        kernel=kernel,
        compile=job.compile,
    )


@cache
def _dataset(options: DatasetOptions) -> Dataset:
    return load_dataset(options)
