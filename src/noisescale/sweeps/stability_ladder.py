"""The short ladder of the largest stable rate: upward until every seed fails, then refined between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import pandas as pd

from noisescale.runs import Run
from noisescale.sweeps.axes import rung
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.spec_sections import NOT_MEASURED
from noisescale.training import Schedule

# The first rungs, as multiples of the sweep's largest rate: one octave below to five above.
FIRST_RUNGS = tuple(2.0**octave for octave in range(-1, 6))

# Distance from the sweep's first seed to the ladder's first.
FIRST_SEED = 1_000_000

# Further octaves before an edge is left unbracketed.
MAX_OCTAVES = 10

# Bisections of the octave in which seeds begin to fail: 1 gives √2, 2 gives a fourth root of 2.
BISECTIONS = 2

# Rungs are rounded; comparisons of their ratios allow for it.
TOLERANCE = 1e-6


def stability_runs(grid: Grid, found: pd.DataFrame) -> list[Run]:
    """The stability runs that are wanted, given what was found so far.

    Args:
        grid: The spec's grid.
        found: `Study.finished()`, or an empty frame.

    Returns:
        All wanted runs, finished ones included. The rule is replayed from the first rungs and looks only at rungs whose
        seeds are all there, so a sweep that was interrupted anywhere wants the same runs.
    """
    if grid.spec.stability.seeds == 0:
        return []
    failed: dict[str, bool] = {}
    if len(found):
        failed = dict(zip(found.run_id, (found.status != "completed") | found.collapsed.astype(bool), strict=True))
    ladders = [_Ladder(base, _seeds(grid), failed) for base in _bases(grid)]
    return [run for ladder in ladders for rate in wanted_rates(ladder.top, ladder.failing) for run in ladder.runs(rate)]


@dataclass(frozen=True, slots=True)
class _Ladder:
    """One ladder: a run like all of its own, at the sweep's largest rate, its seeds, and which runs failed."""

    base: Run
    seeds: range
    failed: dict[str, bool]

    @property
    def top(self) -> float:
        return self.base.learning_rate

    def runs(self, rate: float) -> list[Run]:
        return [replace(self.base, learning_rate=rate, seed=seed) for seed in self.seeds]

    def failing(self, rate: float) -> float | None:
        found = [self.failed[run.run_id] for run in self.runs(rate) if run.run_id in self.failed]
        return sum(found) / len(found) if len(found) == len(self.seeds) else None


def default_batches(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """At most five of the grid's batch sizes, spread evenly in their logarithm, ends included."""
    if len(sizes) <= 5:
        return sizes
    marks = np.geomspace(sizes[0], sizes[-1], 5)
    return tuple(sorted({min(sizes, key=lambda size: abs(np.log(size / mark))) for mark in marks}))


def _seeds(grid: Grid) -> range:
    """Seeds apart from the sweep's own, so that the edge is not read off the runs it judges; more seeds change none."""
    start = min(grid.spec.seeds) + FIRST_SEED
    return range(start, start + grid.spec.stability.seeds)


def _bases(grid: Grid) -> Iterator[Run]:
    """One run per ladder, with the largest rate of the sweep, over its batches, as its learning rate."""
    spec = grid.spec
    top: dict[Run, float] = {}
    for point in grid.points():
        run = grid.cell(point)[0]
        # Everything that a ladder shares; its batch size, seed, steps and schedule are its own.
        key = replace(
            run, learning_rate=0.0, batch_size=0, seed=0, steps=0, schedule="", epochs_budget=None, metrics=""
        )
        top[key] = max(top.get(key, 0.0), run.learning_rate)
    batches = spec.stability.batch_size or default_batches(spec.grid.batch_size)
    for (key, rate), batch in product(top.items(), batches):
        base = replace(key, batch_size=batch, learning_rate=rate, steps=spec.stability.steps, schedule=Schedule().text)
        # Two evaluations, because a loss that has exploded is divergence only when it is seen twice.
        yield replace(base, purpose="stability", evaluations=2, average=False, **NOT_MEASURED)


def wanted_rates(top: float, failing: Callable[[float], float | None]) -> list[float]:
    """The rungs of one ladder.

    Args:
        top: The sweep's largest rate.
        failing: The share of seeds that fail at a rate, None while one is missing.
    """
    rates = [rung(top * factor) for factor in FIRST_RUNGS]
    while True:
        shares = {rate: share for rate in rates if (share := failing(rate)) is not None}
        more = _next_rates(top, rates, shares) if len(shares) == len(rates) else []
        if not more:
            return rates
        rates = sorted({*rates, *map(rung, more)})


def _next_rates(top: float, rates: list[float], share: dict[float, float]) -> list[float]:
    lowest, highest, fewest = rates[0], rates[-1], min(share.values())
    if share[highest] < 1 and highest < top * FIRST_RUNGS[-1] * 2.0**MAX_OCTAVES * (1 - TOLERANCE):
        return [highest * 2.0, highest * 4.0]
    # Where fewer fail at a larger rate, those below have learned nothing in so few steps, and still less would.
    if share[lowest] == fewest > 0 and lowest > top * FIRST_RUNGS[0] * 2.0**-MAX_OCTAVES * (1 + TOLERANCE):
        return [lowest / 4.0, lowest / 2.0]
    first = next(place for place, rate in enumerate(rates) if share[rate] == fewest)
    return _midpoints(rates[first:], share)


def _midpoints(rates: list[float], share: dict[float, float]) -> list[float]:
    """Geometric midpoints of the gaps in which some seed passes from stable to failing, until gaps are fine enough.

    Args:
        rates: From the first at which as few fail as at any.
        share: The share of seeds that fail at each rate.
    """
    # Seeds that fail everywhere (dead from the start) have no edge to look for.
    some_fail = [rate for rate in rates if share[rate] > share[rates[0]]]
    some_hold = [rate for rate in rates if share[rate] < 1]
    if not some_fail or not some_hold:
        return []
    finest = 2.0 ** (0.5**BISECTIONS) * (1 + TOLERANCE)
    return [
        math.sqrt(left * right)
        for left, right in pairwise(rates)
        if right >= some_fail[0] and left <= some_hold[-1] and right / left > finest
    ]
