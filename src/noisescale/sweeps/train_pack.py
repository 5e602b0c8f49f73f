"""One pack from its first step, or its checkpoint, to its results; in halves where memory does not hold it."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.errors import BadInput
from noisescale.families import ModelOptions, family_factory
from noisescale.runs import Run, RunResult
from noisescale.sweeps.checkpoints import Checkpoint, CheckpointFile
from noisescale.sweeps.grid import reference_width
from noisescale.sweeps.jobs import Job
from noisescale.sweeps.kernel_record import KernelRecord
from noisescale.training import PackTrainer

# What is told at every slice of training: the share of the steps that was done before, and that is done now.
Alive = Callable[[float, float], None]


@dataclass
class Trained:
    """What became of a pack's runs.

    Args:
        results: One a run; fewer where the time was up.
        seconds: By "training" and "evaluation".
        note: What a user should know of how they were computed.
        paused: Whether the time was up.
    """

    results: list[RunResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0})
    note: str = ""
    paused: bool = False
    files: list[CheckpointFile] = field(default_factory=list)

    def discard_checkpoints(self) -> None:
        """Remove the checkpoints, once the shard is there."""
        for file in self.files:
            file.discard()


class PackTimeLimit(Exception):
    """A pack took longer than it may."""


def train_pack(job: Job, alive: Alive = lambda before, now: None) -> Trained:
    """Train a pack's runs until they are done or the job's time is up.

    Args:
        job: The pack to train.
        alive: Told at every slice of training which share of the steps was done before, and is done now.

    Raises:
        PackTimeLimit: The pack took longer than it may; its checkpoint stays, for a longer limit.
        Exception: Whatever a user's model raises, and the memory's own error where it does not hold a single run.
    """
    first, dataset = job.pack.runs[0], _dataset(job.options)
    if dataset.hash != first.dataset_hash:
        raise BadInput(f"dataset {first.dataset}", "the data that the sweep was planned with", "other values")
    trained = Trained()
    _train(job, job.pack.runs, dataset, trained, alive)
    return trained


def _train(job: Job, runs: tuple[Run, ...], dataset: Dataset, trained: Trained, alive: Alive) -> None:
    """Train some runs together, or, where memory does not hold them, first one half of them and then the other."""
    if len(runs) <= job.at_once:
        try:
            _train_together(job, runs, dataset, trained, alive)
            return
        except Exception as error:
            if not _is_out_of_memory(error) or len(runs) == 1:
                raise
        if job.device == "cuda":
            gc.collect()  # of what the failed trainer held
            torch.cuda.empty_cache()
    half = len(runs) // 2
    trained.note = f"memory did not hold {len(runs)} runs of width {runs[0].width} at once: trained in halves"
    for part in (runs[:half], runs[half:]):
        if not trained.paused:
            _train(job, part, dataset, trained, alive)


def _train_together(job: Job, runs: tuple[Run, ...], dataset: Dataset, trained: Trained, alive: Alive) -> None:
    file = CheckpointFile(job.checkpoints, runs)
    record = KernelRecord(job.kernels, job.device, torch.get_num_threads())
    known = file.read()
    trainer = _trainer(job, runs, dataset, record.known(runs[0]) if known is None else known.choice)
    if known is not None and known.state.is_like(trainer.state):
        trainer.state = known.state
    else:
        if trainer.measured and (choice := record.settle(runs[0], trainer.choice)) != trainer.choice:
            trainer = _trainer(job, runs, dataset, choice)
    trained.note = trained.note or trainer.note
    trained.files.append(file)
    before, first = sum(trained.seconds.values()), trainer.state.step
    while not trainer.done:
        room = job.most_seconds - before - sum(trainer.state.seconds.values())
        trainer.advance(seconds=max(0.0, min(job.slice_seconds, job.until - time.monotonic(), room)))
        alive(first / runs[0].steps, trainer.state.step / runs[0].steps)
        if not trainer.done:
            # Without room for a checkpoint the training goes on; it is the shard that must be written.
            with contextlib.suppress(OSError, RuntimeError):  # torch's own word for a file that cannot grow
                file.write(Checkpoint(trainer.state, trainer.choice))
            if time.monotonic() >= job.until:
                trained.paused = True
                return
            if before + sum(trainer.state.seconds.values()) >= job.most_seconds:
                raise PackTimeLimit(f"not done after {job.most_seconds:g} s; its checkpoint waits for a longer limit")
    trained.results += trainer.results()
    for name, seconds in trainer.state.seconds.items():
        trained.seconds[name] += seconds


def _is_out_of_memory(error: Exception) -> bool:
    """Torch says it in words: its CPU allocator, its GPU allocator, and the libraries below."""
    words = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return said or isinstance(error, MemoryError)


def _trainer(job: Job, runs: tuple[Run, ...], dataset: Dataset, kernel: str) -> PackTrainer:
    return PackTrainer(
        runs,
        dataset,
        family_factory(ModelOptions.of_run(runs[0])),
        reference_width=reference_width(runs[0].width),
        device=job.device,
        kernel=kernel,
        compile=job.compile,
    )


@cache
def _dataset(options: DatasetOptions) -> Dataset:
    return load_dataset(options)
