"""The stability ladder: short runs at increasing rates until every seed fails, then bisection of the stability edge.

A rung is one rate of the ladder. The stability edge is the rate at which training starts to fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import pandas as pd

from noisescale.runs import Run
from noisescale.store import diverged_or_collapsed
from noisescale.sweeps.axes import rung
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.spec_sections import NOT_MEASURED
from noisescale.training import Schedule

# The first rungs, as multiples of the sweep's largest rate. An octave is a factor of 2.
FIRST_RUNGS = tuple(2.0**octave for octave in range(-1, 6))

# Distance from the sweep's first seed to the first seed of the ladder.
FIRST_SEED = 1_000_000

# Largest number of further octaves at each end. If the seeds still do not start to fail within the ladder, the ladder
# ends without an edge.
MAX_OCTAVES = 10

# Number of bisections of the octave in which seeds start to fail. Neighbouring rates there have the ratio 2^(1/2) after
# one bisection and 2^(1/4) after two.
BISECTIONS = 2

# Relative tolerance for ratios of rungs, which are rounded.
TOLERANCE = 1e-6


def stability_runs(grid: Grid, results: pd.DataFrame) -> list[Run]:
    """List the stability runs that the results so far require.

    Every call replays the rule from the first rungs and reads only rungs with results for all seeds. An interrupted
    sweep therefore plans the same runs as an undisturbed sweep.

    Args:
        grid: The spec's grid.
        results: `Study.finished()`, or an empty frame.

    Returns:
        All stability runs, including finished runs.
    """
    if grid.spec.stability.seeds == 0:
        return []
    failed: dict[str, bool] = {}
    if len(results):
        failed = dict(zip(results.run_id, diverged_or_collapsed(results), strict=True))
    ladders = [_Ladder(base, _seeds(grid), failed) for base in _base_runs(grid)]
    return [
        run
        for ladder in ladders
        for rate in ladder_rates(ladder.top, ladder.failing_share)
        for run in ladder.runs(rate)
    ]


@dataclass(frozen=True, slots=True)
class _Ladder:
    """One ladder of rates.

    Args:
        base: Template of the ladder's runs. Its rate is the sweep's largest rate.
        seeds: Seeds of every rung.
        failed: Whether each finished run diverged or collapsed, by run id.
    """

    base: Run
    seeds: range
    failed: dict[str, bool]

    @property
    def top(self) -> float:
        return self.base.learning_rate

    def runs(self, rate: float) -> list[Run]:
        return [replace(self.base, learning_rate=rate, seed=seed) for seed in self.seeds]

    def failing_share(self, rate: float) -> float | None:
        failed = [self.failed[run.run_id] for run in self.runs(rate) if run.run_id in self.failed]
        return sum(failed) / len(failed) if len(failed) == len(self.seeds) else None


def default_batches(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Choose at most five of the grid's batch sizes, evenly spaced in their logarithm, both ends included."""
    if len(sizes) <= 5:
        return sizes
    marks = np.geomspace(sizes[0], sizes[-1], 5)
    return tuple(sorted({min(sizes, key=lambda size: abs(np.log(size / mark))) for mark in marks}))


def _seeds(grid: Grid) -> range:
    """Return seeds that the sweep does not use, so that the edge is independent of the sweep's runs.

    The seeds depend only on the sweep's smallest seed, so adding seeds to the sweep does not change them.
    """
    start = min(grid.spec.seeds) + FIRST_SEED
    return range(start, start + grid.spec.stability.seeds)


def _base_runs(grid: Grid) -> Iterator[Run]:
    """Yield one template run per ladder. Its rate is the largest rate of the sweep over all batch sizes."""
    spec = grid.spec
    top: dict[Run, float] = {}
    for point in grid.points():
        run = grid.cell(point)[0]
        # Keep the values that the runs of a ladder share with the sweep. A ladder has a different batch size, seed,
        # number of steps and schedule.
        template = replace(
            run, learning_rate=0.0, batch_size=0, seed=0, steps=0, schedule="", epochs_budget=None, metrics=""
        )
        top[template] = max(top.get(template, 0.0), run.learning_rate)
    batches = spec.stability.batch_size or default_batches(spec.grid.batch_size)
    for (template, rate), batch in product(top.items(), batches):
        base = replace(
            template, batch_size=batch, learning_rate=rate, steps=spec.stability.steps, schedule=Schedule().text
        )
        # Two evaluations, because an exploded loss counts as divergence only when two evaluations see it.
        yield replace(base, purpose="stability", evaluations=2, average=False, **NOT_MEASURED)


def ladder_rates(top: float, failing_share: Callable[[float], float | None]) -> list[float]:
    """Return the rungs of one ladder that the results so far require.

    Args:
        top: The sweep's largest rate.
        failing_share: Returns the share of seeds that fail at a rate; None while a seed is missing.

    Returns:
        Rates in ascending order.
    """
    rates = [rung(top * factor) for factor in FIRST_RUNGS]
    while True:
        shares = {rate: share for rate in rates if (share := failing_share(rate)) is not None}
        next_rates = _next_rates(top, rates, shares) if len(shares) == len(rates) else []
        if not next_rates:
            return rates
        rates = sorted({*rates, *map(rung, next_rates)})


def _next_rates(top: float, rates: list[float], share: dict[float, float]) -> list[float]:
    lowest, highest, fewest = rates[0], rates[-1], min(share.values())
    if share[highest] < 1 and highest < top * FIRST_RUNGS[-1] * 2.0**MAX_OCTAVES * (1 - TOLERANCE):
        return [highest * 2.0, highest * 4.0]
    # Lower rates help only if the lowest rate has the smallest share of failures. If fewer seeds fail at a larger rate,
    # the lowest rates fail because they learn too slowly in so few steps, and still lower rates would fail too.
    if share[lowest] == fewest > 0 and lowest > top * FIRST_RUNGS[0] * 2.0**-MAX_OCTAVES * (1 + TOLERANCE):
        return [lowest / 4.0, lowest / 2.0]
    start = next(place for place, rate in enumerate(rates) if share[rate] == fewest)
    return _midpoints(rates[start:], share)


def _midpoints(rates: list[float], share: dict[float, float]) -> list[float]:
    """Return the geometric midpoints of the gaps in which seeds start to fail, if a gap is still too wide.

    Args:
        rates: Increasing rates, from the first rate with the smallest share of failures.
        share: The share of seeds that fail at each rate.
    """
    # Some seeds fail at every rate, because their initial weights cannot learn. They have no edge.
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
