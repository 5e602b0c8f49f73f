"""A pack on another machine, or in a process that knows nothing of this one."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import replace

import torch

from noisescale.sweeps.jobs import Job, Outcome, lost
from noisescale.sweeps.worker import train_and_store


def wall_clock(until: float) -> float:
    """A time of `time.monotonic`, which other machines count differently, as one of `time.time`."""
    return until if math.isinf(until) else time.time() + until - time.monotonic()


def train_elsewhere(job: Job, threads: int, until: float) -> Outcome:
    """Train a pack with so many threads and store its shard; a shard that cannot be written is a failure of its pack.

    Args:
        job: The pack to train.
        threads: Threads of the task.
        until: The time of `time.time` at which it is to be put aside.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    left = until if math.isinf(until) else time.monotonic() + until - time.time()
    try:
        return train_and_store(replace(job, until=left))
    except OSError as error:  # of this node's disk; another's may have room
        return lost(job, f"its shard cannot be written on {platform.node()}: {error}")
