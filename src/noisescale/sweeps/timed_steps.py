"""The time of a pack (runs that train together), from its first steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from noisescale.datasets import Dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.parameterizations import reference_width
from noisescale.sweeps.plan import Pack
from noisescale.training import PackTrainer

# Seconds of training that are timed.
TIMED_SECONDS = 0.5


@dataclass(frozen=True)
class TimedPack:
    """The time of a pack, from its first steps.

    Args:
        seconds: Time of all its steps and evaluations, without the start of a worker process.
        evaluations: Time of the evaluations among them.
        note: Why its runs are trained one at a time; empty if they are not.
    """

    seconds: float
    evaluations: float
    note: str


def time_pack(pack: Pack, dataset: Dataset, device: str, threads: int, timed: float = TIMED_SECONDS) -> TimedPack:
    """Train the first steps of a pack, and extrapolate the time of all its steps and evaluations. Nothing is stored.

    Args:
        pack: The pack.
        dataset: The data.
        device: "cpu" or "cuda".
        threads: Number of threads of a worker.
        timed: Seconds of training that are timed.

    Returns:
        The time.

    Raises:
        Exception: Any error of the user's model.
    """
    run, caller_threads = pack.runs[0], torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        start = time.perf_counter()
        factory = family_factory(ModelOptions.of_run(run))
        trainer = PackTrainer(pack.runs, dataset, factory, reference_width=reference_width(run.width), device=device)
        preparation = time.perf_counter() - start
        trainer.advance(seconds=timed)
    finally:
        torch.set_num_threads(caller_threads)
    state = trainer.state
    per_step = state.seconds["training"] / state.step
    evaluations = state.seconds["evaluation"] / len(state.evaluated_steps) * (run.evaluations + 1)
    return TimedPack(preparation + per_step * run.steps + evaluations, evaluations, trainer.note)
