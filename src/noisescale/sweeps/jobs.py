"""The messages between the driver of a sweep and its workers: jobs, outcomes and retries.

A job trains one pack, a set of runs that train together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from noisescale.datasets import DatasetOptions
from noisescale.sweeps.code_identity import CodeIdentity
from noisescale.sweeps.plan import Pack

# Seconds of training between two checkpoints. A killed worker loses at most this much work. Packs that train for a
# shorter time write no checkpoint.
SLICE_SECONDS = 20.0

# Largest number of times that the number of runs at once is halved after a worker died; then the pack fails. If an
# eighth of the pack does not fit in memory, the size of the pack is not the cause.
_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One pack to train.

    Args:
        pack: The pack.
        options: The data set to train on.
        shards: The folder in which every finished pack stores its results as one file (a shard).
        kernels: The folder in which `KernelRecord` stores the choice of kernels.
        checkpoints: The folder of checkpoints.
        device: "cpu" or "cuda".
        compile: True asks for `torch.compile`.
        deadline: The time of `time.monotonic` at which the pack pauses, in seconds.
        max_seconds: Seconds of training and evaluation after which the pack fails.
        slice_seconds: Seconds of training between two checkpoints.
        code: Identity of the user's code that the sweep was planned with; None without code of a user.
        max_at_once: Largest number of runs that train together, after an attempt with more runs may have exceeded the
            memory; None for all runs of the pack.
        checkpoint: The file of weights from which the runs start; None for the module's initial weights.
    """

    pack: Pack
    options: DatasetOptions
    shards: Path
    kernels: Path
    checkpoints: Path
    device: str
    compile: bool
    deadline: float = math.inf
    max_seconds: float = math.inf
    slice_seconds: float = SLICE_SECONDS
    code: CodeIdentity | None = None
    max_at_once: int | None = None
    checkpoint: Path | None = None

    @property
    def code_digest(self) -> str:
        """The digest of the user's code; empty without code of a user."""
        return "" if self.code is None else self.code.digest

    @property
    def runs_at_once(self) -> int:
        """The largest number of runs that train together."""
        return self.max_at_once or len(self.pack.runs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one pack.

    Args:
        pack_id: The id of the pack.
        runs: Number of runs in the pack.
        diverged: Number of runs that diverged.
        seconds: Seconds spent on "training", "evaluation" and "storing", by name.
        error: The error on one line if the pack failed; None otherwise.
        note: A note for the user about how the runs were computed; empty for most packs.
        paused: True if the deadline passed before the pack was done. Its checkpoint keeps the work.
        warnings: Warnings of models and libraries, by source line; of each line the first warning.
    """

    pack_id: str
    runs: int
    diverged: int
    seconds: dict[str, float]
    error: str | None = None
    note: str = ""
    paused: bool = False
    warnings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """A pack that starts again because its worker ended without a result.

    Args:
        pack_id: The id of the pack.
        reason: Why the worker ended, as text for the log.
        runs_at_once: The number of runs that train together in this attempt.
    """

    pack_id: str
    reason: str
    runs_at_once: int


def halve_runs_at_once(job: Job) -> Job | None:
    """Return the job with half as many runs at once, to retry after a worker that may have run out of memory.

    Args:
        job: The job whose worker died.

    Returns:
        The new job; None after the last halving.
    """
    if job.runs_at_once == 1 or job.runs_at_once << _HALVINGS <= len(job.pack.runs):
        return None
    return replace(job, max_at_once=math.ceil(job.runs_at_once / 2))


def unstarted_outcome(job: Job) -> Outcome:
    """Return the outcome of a pack that did not start before the deadline."""
    return Outcome(job.pack.pack_id, len(job.pack.runs), 0, {}, paused=True)


def failed_outcome(job: Job, reason: str) -> Outcome:
    """Return the outcome of a pack whose worker gave no result."""
    return Outcome(job.pack.pack_id, len(job.pack.runs), 0, {}, f"{reason} (pack of {len(job.pack.runs)} runs)")
