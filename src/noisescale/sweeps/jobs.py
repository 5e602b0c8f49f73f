"""What a worker is asked to do, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from noisescale.datasets import DatasetOptions
from noisescale.sweeps.plan import Pack

# Seconds of training between two checkpoints, and so the work that a kill costs at most. A pack that is shorter than
# this writes none.
SLICE_SECONDS = 20.0

# How often a pack whose worker dies is halved before it fails: what a memory does not hold in eighths is not a matter
# of the pack.
_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One pack to train.

    Args:
        shards: The folder of shards.
        kernels: The folder of `KernelRecord`.
        checkpoints: The folder of packs that are not done.
        compile: Whether `torch.compile` is asked for.
        until: The time of `time.monotonic` at which the pack is to be put aside.
        most_seconds: Of training and evaluation, after which it fails.
        slice_seconds: Of training between two checkpoints and signs of life.
        together: Of its runs at most are trained at once, where that is known to be all that memory holds.
    """

    pack: Pack
    options: DatasetOptions
    shards: Path
    kernels: Path
    checkpoints: Path
    device: str
    compile: bool
    until: float = math.inf
    most_seconds: float = math.inf
    slice_seconds: float = SLICE_SECONDS
    together: int | None = None

    @property
    def at_once(self) -> int:
        """Runs that train at once at most."""
        return self.together or len(self.pack.runs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a pack.

    Args:
        error: One line, where it failed.
        seconds: By "training", "evaluation", "storing".
        note: What a user should know of how the runs were computed.
        paused: Whether the time was up and the pack waits in its checkpoint.
        warnings: That models and libraries gave, the first from each place in the source.
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
    """A pack that is begun again because its worker ended without an answer.

    Args:
        why: In words.
        at_once: Its runs that train at once now.
    """

    pack_id: str
    why: str
    at_once: int


def halved(job: Job) -> Job | None:
    """The job with half as many runs at once, for a worker that was killed for its memory; None once that is enough."""
    if job.at_once == 1 or job.at_once << _HALVINGS <= len(job.pack.runs):
        return None
    return replace(job, together=math.ceil(job.at_once / 2))


def not_begun(job: Job) -> Outcome:
    """The outcome of a pack that was not begun in time."""
    return Outcome(job.pack.pack_id, len(job.pack.runs), 0, {}, paused=True)


def lost(job: Job, why: str) -> Outcome:
    """The outcome of a pack whose worker did not answer."""
    return Outcome(job.pack.pack_id, len(job.pack.runs), 0, {}, f"{why} (pack of {len(job.pack.runs)} runs)")
