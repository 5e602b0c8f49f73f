"""The batch size of each step, and the position of the batch in the order of the examples."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, Protocol

from noisescale.runs import Run
from noisescale.training.sampling import FRESH_BLOCK
from noisescale.training.schedules import Schedule, parse_schedule


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive steps of one batch size. Their batches follow each other in one block of the order of examples.

    Args:
        first: Number of the first step, counted from 0.
        steps: Number of steps.
        batch_size: B, in examples.
        block: Number of the block, which is an epoch or a number of steps (see `sampling`).
        start: Position in the block at which the first batch begins, in examples.
        progress: Share of the budget that is done before the first step.
        pace: Share of the budget that one step adds.
    """

    first: int
    steps: int
    batch_size: int
    block: int
    start: int
    progress: float
    pace: float

    @property
    def end(self) -> int:
        """The number of the step after the last one."""
        return self.first + self.steps

    def progress_at(self, step: int) -> float:
        """Return the share of the budget that is done before a step of the stretch."""
        return self.progress + (step - self.first) * self.pace


# Tolerance for rounding errors of progress, which is a sum of fractions of the budget.
_ROUNDING = 1e-9


class Batches(Protocol):
    """The batch sizes of a run, step by step."""

    @property
    def largest(self) -> int:
        """The largest batch size, in examples."""

    def at(self, step: int) -> Stretch:
        """Return the stretch that contains a step, counted from 0."""

    def examples(self, steps: int) -> int:
        """Return the number of examples in the first `steps` steps."""

    def elapsed(self, steps: int) -> float:
        """Return the part of the budget that the first `steps` steps use.

        The unit is one step if the batch size is constant. Otherwise it is the whole budget.
        """

    def step_at(self, share: Fraction) -> int:
        """Return the number of steps after which a share of the budget is done."""


@dataclass(frozen=True, slots=True)
class ConstantBatches:
    """One batch size for all steps. The partial batch at the end of an epoch is dropped.

    Args:
        run: A run whose schedule does not change the batch size.
    """

    run: Run

    @property
    def largest(self) -> int:
        return self.run.batch_size

    def at(self, step: int) -> Stretch:
        run = self.run
        length = run.train_size // run.batch_size if run.sampling == "epoch_shuffle" else FRESH_BLOCK
        block = step // length
        first = block * length
        return Stretch(first, length, run.batch_size, block, 0, first / run.steps, 1 / run.steps)

    def examples(self, steps: int) -> int:
        return steps * self.run.batch_size

    def elapsed(self, steps: int) -> float:
        return steps

    def step_at(self, share: Fraction) -> int:
        return round(self.run.steps * share)


@dataclass(frozen=True)
class MovingBatches:
    """Batch sizes that follow a schedule, over a budget of steps or of epochs.

    With the sampling "epoch_shuffle", each batch begins where the previous batch ended, and a batch that does not fit
    into the rest of an epoch begins the next epoch. With other samplings, a new batch size begins a new block.

    Args:
        run: A run whose schedule changes the batch size. Its number of steps is ignored if it has `epochs_budget`.
    """

    run: Run

    @property
    def largest(self) -> int:
        return max(stretch.batch_size for stretch in self.stretches)

    @property
    def sizes(self) -> list[int]:
        """All batch sizes, in increasing order."""
        return sorted({stretch.batch_size for stretch in self.stretches})

    @property
    def steps(self) -> int:
        """The number of steps of the whole budget."""
        return self.stretches[-1].end

    def at(self, step: int) -> Stretch:
        return self.stretches[bisect_right(self._starts, step) - 1]

    def examples(self, steps: int) -> int:
        return sum(
            min(stretch.steps, steps - stretch.first) * stretch.batch_size
            for stretch in self.stretches
            if stretch.first < steps
        )

    def elapsed(self, steps: int) -> float:
        return 1.0 if steps >= self.steps else self.at(steps).progress_at(steps)

    def step_at(self, share: Fraction) -> int:
        if share >= 1 - _ROUNDING:
            return self.steps
        stretch = self.stretches[bisect_right(self._progress, float(share) + _ROUNDING) - 1]
        within = math.ceil((float(share) - stretch.progress) / stretch.pace - _ROUNDING)
        return min(stretch.end, stretch.first + within)

    @cached_property
    def stretches(self) -> list[Stretch]:
        """All stretches, in order."""
        # Runs that differ only in these keys have the same stretches, which are computed once.
        return _walk(replace(self.run, **_IRRELEVANT_KEYS))

    @cached_property
    def _starts(self) -> list[int]:
        return [stretch.first for stretch in self.stretches]

    @cached_property
    def _progress(self) -> list[float]:
        return [stretch.progress for stretch in self.stretches]


# Keys of a run on which the stretches do not depend, with arbitrary values.
_IRRELEVANT_KEYS: dict[str, Any] = {
    "seed": 0, "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "init_scale": 1.0, "width": 1,
    "parameterization": "", "base_width": None,
}  # fmt: skip


@lru_cache(maxsize=64)
def _walk(run: Run) -> list[Stretch]:
    schedule = parse_schedule(run.schedule)
    shuffled, epochs = run.sampling == "epoch_shuffle", run.epochs_budget
    stretches: list[Stretch] = []
    step = epoch = used = 0
    while True:
        passes = epoch + used / run.train_size
        progress = step / run.steps if epochs is None else passes / epochs
        if progress >= 1 - _ROUNDING:
            return stretches
        size = batch_size_at(schedule, progress, run.batch_size, run.train_size)
        if used + size > run.train_size and shuffled:
            epoch, used = epoch + 1, 0
            continue
        last = stretches[-1] if stretches else None
        same_size = last is not None and last.batch_size == size
        if last is not None and same_size and (last.block == epoch if shuffled else last.steps < FRESH_BLOCK):
            stretches[-1] = replace(last, steps=last.steps + 1)
        else:
            block, start = (epoch, used) if shuffled else (len(stretches), 0)
            pace = 1 / run.steps if epochs is None else size / (run.train_size * epochs)
            stretches.append(Stretch(step, 1, size, block, start, progress, pace))
        step, used = step + 1, used + size


def batch_size_at(schedule: Schedule, progress: float, batch_size: int, train_size: int) -> int:
    """Return B(x) = B/f(x), rounded, but at most the schedule's bound and the size of the training set.

    Args:
        schedule: A schedule that changes the batch size.
        progress: x, the share of the budget that is done.
        batch_size: B, the batch size at f = 1.
        train_size: N, the size of the training set, in examples.
    """
    most = min(train_size, schedule.largest_batch or train_size)
    factor = schedule.rate_factor(progress)
    return most if factor * most <= batch_size else round(batch_size / factor)


def batches_of(run: Run) -> Batches:
    """Return the batch sizes of a run, step by step."""
    moving = parse_schedule(run.schedule).of == "batch_size"
    return MovingBatches(run) if moving else ConstantBatches(run)


def rate_factor_at(run: Run, schedule: Schedule, step: int, stretch: Stretch) -> float:
    """Return the factor of the peak rate at a step: f(x), or f(x)·B(x)/B if the schedule changes the batch size.

    Args:
        run: Any run of the pack.
        schedule: The run's schedule.
        step: The step, counted from 0.
        stretch: The stretch that contains the step.
    """
    progress = stretch.progress_at(step)
    if schedule.of == "batch_size":
        return schedule.rate_factor(progress) * stretch.batch_size / run.batch_size
    return schedule.warmed(progress, run.steps)
