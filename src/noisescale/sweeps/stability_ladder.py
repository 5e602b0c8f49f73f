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

from noisescale.edge_rules import seed_thresholds
from noisescale.runs import Run
from noisescale.store import diverged_or_collapsed
from noisescale.sweeps.axes import rung
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.spec_measure import NOT_AVERAGED, NOT_MEASURED
from noisescale.training import Schedule, parse_schedule

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
    return [run for ladder in stability_ladders(grid, results) for rate in ladder.rates() for run in ladder.runs(rate)]


def stability_ladders(grid: Grid, results: pd.DataFrame) -> list[StabilityLadder]:
    """List the stability ladders of a grid, one for each setting and batch size.

    Args:
        grid: The spec's grid.
        results: `Study.finished()`, or an empty frame.
    """
    if grid.spec.stability.seeds == 0:
        return []
    failed: dict[str, bool] = {}
    if len(results):
        failed = dict(zip(results.run_id, diverged_or_collapsed(results), strict=True))
    return [StabilityLadder(template, base, _seeds(grid), failed) for template, base in _base_runs(grid)]


@dataclass(frozen=True, slots=True)
class StabilityLadder:
    """One ladder of rates.

    Args:
        template: The values that the ladder shares with the sweep, as `ladder_template` returns them.
        base: Template of the ladder's runs. Its rate is the sweep's largest rate.
        seeds: Seeds of every rung.
        failed: Whether each finished run diverged or collapsed, by run id.
    """

    template: Run
    base: Run
    seeds: range
    failed: dict[str, bool]

    def rates(self) -> list[float]:
        """Return the rungs that the results so far require, in ascending order."""
        return ladder_rates(self.base.learning_rate, self.failing_share)

    def runs(self, rate: float) -> list[Run]:
        """Return the runs of one rung."""
        return [replace(self.base, learning_rate=rate, seed=seed) for seed in self.seeds]

    def failing_share(self, rate: float) -> float | None:
        """Return the share of seeds that fail at a rate; None while a seed is missing."""
        failed = self._failures(rate)
        return None if failed is None else sum(failed) / len(failed)

    def is_finished(self) -> bool:
        """Return whether no run of the ladder is missing."""
        return all(self.failing_share(rate) is not None for rate in self.rates())

    def edge(self) -> float:
        """Return the median over seeds of the rate at which training first fails.

        The threshold of a seed is the geometric mean of its first failing rate and the stable rate below it. A failure
        below a seed's lowest stable rate is slow training and does not count.

        Returns:
            The rate; NaN if the median lies outside the ladder, or if a run is missing.
        """
        rates = self.rates()
        failures = [self._failures(rate) for rate in rates]
        if any(failed is None for failed in failures):
            return math.nan
        below, first = seed_thresholds(np.log(rates), np.array(failures, dtype=np.float64).T)
        # A seed without a stable rate has its threshold below the ladder.
        thresholds = (below + first) / 2
        # The mean of the middle thresholds of an even number of seeds must not mix finite and infinite values.
        middle = np.sort(thresholds)[[(len(thresholds) - 1) // 2, len(thresholds) // 2]]
        return float(np.exp(middle.mean())) if np.isfinite(middle).all() else math.nan

    def _failures(self, rate: float) -> list[bool] | None:
        failed = [self.failed[run.run_id] for run in self.runs(rate) if run.run_id in self.failed]
        return failed if len(failed) == len(self.seeds) else None


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


def ladder_template(run: Run, schedule: str) -> Run:
    """Keep the values that the runs of a ladder share with a run of the sweep.

    A ladder has a different rate, batch size, seed and number of steps.

    Args:
        run: A run of the sweep.
        schedule: The spec's `stability.schedule`. With "run", the ladder has the run's schedule of the rate. A schedule
            that changes the batch size is replaced by a constant one, because a ladder measures one batch size.
    """
    changes_rate = schedule == "run" and parse_schedule(run.schedule).of == "learning_rate"
    text = run.schedule if changes_rate else Schedule().text
    return replace(run, learning_rate=0.0, batch_size=0, seed=0, steps=0, schedule=text, epochs_budget=None, metrics="")


def _base_runs(grid: Grid) -> Iterator[tuple[Run, Run]]:
    """Yield two templates per ladder: `ladder_template`, and a run at the sweep's largest rate over all batch sizes."""
    spec = grid.spec
    top: dict[Run, float] = {}
    for point in grid.points():
        run = grid.cell(point)[0]
        template = ladder_template(run, spec.stability.schedule)
        top[template] = max(top.get(template, 0.0), run.learning_rate)
    batches = spec.stability.batch_size or default_batches(spec.grid.batch_size)
    for (template, rate), batch in product(top.items(), batches):
        base = replace(template, batch_size=batch, learning_rate=rate, steps=spec.stability.steps)
        # Two evaluations, because an exploded loss counts as divergence only when two evaluations see it.
        yield template, replace(base, purpose="stability", evaluations=2, **NOT_AVERAGED, **NOT_MEASURED)


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
