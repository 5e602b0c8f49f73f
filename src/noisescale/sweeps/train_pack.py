"""Training of one pack, a set of runs that train together, from its first step or its checkpoint to its results.

If the runs do not fit in memory together, each half of the pack trains alone.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.errors import BadInput, one_line
from noisescale.families import Factory, ModelOptions, PretrainedFactory, family_factory
from noisescale.parameterizations import reference_width
from noisescale.runs import Run, RunResult
from noisescale.sweeps.checkpoints import Checkpoint, CheckpointFile
from noisescale.sweeps.code_identity import CodeIdentity, identify
from noisescale.sweeps.jobs import Job
from noisescale.sweeps.kernel_record import KernelRecord
from noisescale.training import PackTrainer

# Called after every slice of training with two fractions of the steps: the steps that earlier workers did, and all
# steps done so far.
ReportProgress = Callable[[float, float], None]

# Seconds of training between two reports of progress. A report is a line in a file.
REPORT_SECONDS = 2.0


@dataclass
class TrainedPack:
    """The results of one pack.

    Args:
        results: One result per run; fewer if the pack paused.
        seconds: Seconds spent on "training" and on "evaluation", by name.
        note: A note for the user about how the runs were computed; empty for most packs.
        paused: True if the deadline passed before the pack was done.
        files: The checkpoint files of the pack.
    """

    results: list[RunResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0})
    note: str = ""
    paused: bool = False
    files: list[CheckpointFile] = field(default_factory=list)

    def discard_checkpoints(self) -> None:
        """Remove the checkpoints. Call this method after the results are written."""
        for file in self.files:
            file.discard()


class PackTimeLimit(Exception):
    """A pack exceeded its time limit."""


def train_pack(job: Job, report: ReportProgress = lambda before, now: None) -> TrainedPack:
    """Train a pack until it is done or the job's deadline passes.

    Args:
        job: The pack to train.
        report: Called after every slice of training with two fractions of the steps: the steps that earlier workers
            did, and all steps done so far.

    Returns:
        The results of the pack.

    Raises:
        BadInput: The data set or the user's code has changed since the sweep was planned.
        PackTimeLimit: The pack exceeded its time limit. Its checkpoint stays, for a sweep with a longer limit.
        Exception: Any error in the user's model, and out-of-memory errors if not even a single run fits.
    """
    first_run, dataset = job.pack.runs[0], _dataset(job.options)
    if dataset.hash != first_run.dataset_hash:
        raise BadInput(f"dataset {first_run.dataset}", "the data that the sweep was planned with", "other values")
    if job.code is not None:
        _check_code(job, job.code, first_run, dataset)
    trained = TrainedPack()
    _train(job, job.pack.runs, dataset, trained, report)
    return trained


def _check_code(job: Job, code: CodeIdentity, run: Run, dataset: Dataset) -> None:
    """Check that this process has imported the code that the sweep was planned with."""
    if (difference := _difference(code, run, factory_of(run, job.checkpoint), dataset)) is not None:
        raise BadInput("the code of the model and the data", "the code that the sweep was planned with", difference)


# Digests of the code that this process was found to have imported.
_CHECKED: set[str] = set()


def _difference(code: CodeIdentity, run: Run, factory: Factory, dataset: Dataset) -> str | None:
    if code.digest in _CHECKED:
        return None
    difference = code.difference(identify((run.family, run.dataset), factory, code.width, dataset))
    if difference is None:
        _CHECKED.add(code.digest)
    return difference


def _train(job: Job, runs: tuple[Run, ...], dataset: Dataset, trained: TrainedPack, report: ReportProgress) -> None:
    """Train runs together. If they do not fit in memory, train the halves one after the other."""
    if len(runs) <= job.runs_at_once:
        try:
            _train_together(job, runs, dataset, trained, report)
            return
        except Exception as error:
            if not _is_out_of_memory(error) or len(runs) == 1:
                raise
        if job.device == "cuda":
            gc.collect()  # frees the tensors of the failed trainer
            torch.cuda.empty_cache()
    middle = len(runs) // 2
    trained.note = f"{len(runs)} runs of width {runs[0].width} do not fit in memory together: trained in halves"
    for part in (runs[:middle], runs[middle:]):
        if not trained.paused:
            _train(job, part, dataset, trained, report)


def _train_together(
    job: Job, runs: tuple[Run, ...], dataset: Dataset, trained: TrainedPack, report: ReportProgress
) -> None:
    file = CheckpointFile(job.checkpoints, runs, job.code_digest)
    kernels = KernelRecord(job.kernels, job.device, torch.get_num_threads())
    checkpoint = file.read()
    trainer = _trainer(job, runs, dataset, kernels.read(runs[0]) if checkpoint is None else checkpoint.choice)
    if checkpoint is not None and checkpoint.state.is_like(trainer.state):
        trainer.state = checkpoint.state
    else:
        if trainer.choice_is_measured and (choice := kernels.store(runs[0], trainer.choice)) != trainer.choice:
            trainer = _trainer(job, runs, dataset, choice)
    trained.note = trained.note or trainer.note
    trained.files.append(file)
    seconds_before, first_step = sum(trained.seconds.values()), trainer.state.step
    written = time.monotonic()
    while not trainer.done:
        seconds_left = job.max_seconds - seconds_before - sum(trainer.state.seconds.values())
        slice_seconds = min(REPORT_SECONDS, job.slice_seconds)
        trainer.advance(seconds=max(0.0, min(slice_seconds, job.deadline - time.monotonic(), seconds_left)))
        report(first_step / runs[0].steps, trainer.state.step / runs[0].steps)
        is_over = (
            time.monotonic() >= job.deadline or seconds_before + sum(trainer.state.seconds.values()) >= job.max_seconds
        )
        if not trainer.done and (is_over or time.monotonic() - written >= job.slice_seconds):
            written = time.monotonic()
            # If the disk is full, training continues without a checkpoint.
            with contextlib.suppress(OSError, RuntimeError):  # torch raises RuntimeError if a file cannot grow
                file.write(Checkpoint(trainer.state, trainer.choice))
            if time.monotonic() >= job.deadline:
                trained.paused = True
                return
            if seconds_before + sum(trainer.state.seconds.values()) >= job.max_seconds:
                raise PackTimeLimit(f"not done after {job.max_seconds:g} s; its checkpoint is kept for a longer limit")
    trained.results += trainer.results()
    for name, seconds in trainer.state.seconds.items():
        trained.seconds[name] += seconds


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out. Torch and the libraries that it calls report this only in the message."""
    phrases = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    if isinstance(error, RuntimeError) and any(phrase in one_line(error) for phrase in phrases):
        return True
    return isinstance(error, MemoryError)


def _trainer(job: Job, runs: tuple[Run, ...], dataset: Dataset, kernel: str) -> PackTrainer:
    return PackTrainer(
        runs,
        dataset,
        factory_of(runs[0], job.checkpoint),
        reference_width=reference_width(runs[0].width),
        device=job.device,
        kernel=kernel,
        compile=job.compile,
    )


def factory_of(run: Run, checkpoint: Path | None) -> Factory:
    """Return the factory of a run's model, whose modules start from the weights of a file if the run does.

    Args:
        run: The run.
        checkpoint: The file of weights. Its content must be that of `run.checkpoint`.
    """
    factory = family_factory(ModelOptions.of_run(run))
    if checkpoint is None or not run.checkpoint:
        return factory
    return PretrainedFactory(factory, run.width, checkpoint, run.checkpoint, tuple(run.reinitialize.split()))


@cache
def _dataset(options: DatasetOptions) -> Dataset:
    return load_dataset(options)
