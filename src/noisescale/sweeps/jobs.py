"""What a worker is asked to do, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from noisescale.datasets import DatasetOptions
from noisescale.sweeps.plan import Pack


@dataclass(frozen=True, slots=True)
class Job:
    """One pack to train.

    Arguments:
        shards: the folder of shards. kernels: the folder of `KernelRecord`. checkpoints: the folder of packs that are
            not done. compile: whether `torch.compile` is asked for. until: the time of `time.monotonic` at which the
            pack is to be put aside. most_seconds: of training and evaluation, after which it fails.
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a pack.

    Arguments:
        error: one line, where it failed. seconds: by "training", "evaluation", "storing". note: what a user should know
            of how the runs were computed. paused: whether the time was up and the pack waits in its checkpoint.
    """

    pack_id: str
    runs: int
    diverged: int
    seconds: dict[str, float]
    error: str | None = None
    note: str = ""
    paused: bool = False


def lost(job: Job, why: str) -> Outcome:
    """The outcome of a pack whose worker did not answer."""
    return Outcome(job.pack.pack_id, len(job.pack.runs), 0, {}, f"{why} (pack of {len(job.pack.runs)} runs)")
