"""Training of a pack (runs that train together) on another machine or in an independent process."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import replace

import torch

from noisescale.sweeps.jobs import Job, Outcome, failed_outcome
from noisescale.sweeps.worker import train_and_store


def to_wall_clock(deadline: float) -> float:
    """Convert a time of `time.monotonic`, which differs between machines, to a time of `time.time`, in seconds."""
    return deadline if math.isinf(deadline) else time.time() + deadline - time.monotonic()


def train_elsewhere(job: Job, threads: int, wall_deadline: float) -> Outcome:
    """Train a pack on this node and store its results. If the results cannot be written, the pack fails.

    Args:
        job: The pack to train.
        threads: Number of threads of the task.
        wall_deadline: The time of `time.time` at which the pack pauses, in seconds.

    Returns:
        The outcome of the pack.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    deadline = wall_deadline if math.isinf(wall_deadline) else time.monotonic() + wall_deadline - time.time()
    try:
        return train_and_store(replace(job, deadline=deadline))
    except OSError as error:  # this node's disk may be full while other nodes have room
        return failed_outcome(job, f"its shard cannot be written on {platform.node()}: {error}")
