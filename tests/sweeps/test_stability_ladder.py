from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.runs import Run
from noisescale.sweeps import Grid
from noisescale.sweeps.stability_ladder import default_batches, ladder_rates, stability_runs

MakeGrid = Callable[..., Grid]
Frame = Callable[[Iterable[Run], Callable[[Run], dict[str, Any]]], pd.DataFrame]

FIRST = [0.5, 1, 2, 4, 8, 16, 32]


def climb(share: Callable[[float], float], top: float = 1.0) -> list[float]:
    """Return all rates of the ladder, if missing rungs get their results one after the other."""
    shares: dict[float, float] = {}
    for _ in range(1000):
        missing = [rate for rate in ladder_rates(top, shares.get) if rate not in shares]
        if not missing:
            return sorted(shares)
        shares[missing[0]] = share(missing[0])
    raise AssertionError("the ladder does not end")


def test_the_first_rungs_are_octaves_around_the_largest_rate() -> None:
    assert ladder_rates(3.0, lambda rate: None) == [3 * rate for rate in FIRST]


def test_an_edge_inside_is_refined_by_bisection_twice() -> None:
    rates = climb(lambda rate: float(rate > 5))
    edge = [rate for rate in rates if 4 <= rate <= 8]
    assert edge == pytest.approx([4, 4 * 2**0.25, 4 * 2**0.5, 8])  # the edge is at 5
    assert [rate for rate in rates if not 4 <= rate <= 8] == [0.5, 1, 2, 16, 32]


def test_all_gaps_in_which_seeds_start_to_fail_are_refined() -> None:
    # The share of failing seeds rises from 0 at rate 1 to 1 at rate 8.
    rates = climb(lambda rate: min(1.0, max(0.0, math.log2(rate) / 3)))
    inner = [rate for rate in rates if 1 <= rate <= 8]
    assert np.allclose(np.diff(np.log2(inner)), 0.25)


def test_the_ladder_rises_until_every_seed_fails() -> None:
    rates = climb(lambda rate: 0.5 * (rate > 10) + 0.5 * (rate > 300))
    assert max(rates) == 512
    assert climb(lambda rate: 0.0)[-1] == 32 * 2**10


def test_rates_too_slow_to_learn_are_not_an_edge() -> None:
    """Below a rate of 0.8 runs learn too slowly, up to 5 they are stable, and some seeds fail at every rate."""
    for dead in (0.0, 0.2):
        rates = climb(lambda rate, dead=dead: 1.0 if rate > 5 or rate < 0.8 else dead)  # type: ignore[misc]
        assert min(rates) >= 0.5
        assert [rate for rate in rates if 4 < rate < 8] == pytest.approx([4 * 2**0.25, 4 * 2**0.5])


def test_the_ladder_extends_downward_while_the_lowest_rung_fails() -> None:
    assert 0 < len([rate for rate in climb(lambda rate: float(rate > 0.1)) if rate < 0.1]) <= 3
    assert climb(lambda rate: 1.0)[0] == 0.5 / 2**10


@given(seed=st.integers(0, 10**6), top=st.floats(1e-3, 1e3))
def test_the_ladder_ends_for_any_results(seed: int, top: float) -> None:
    chance = random.Random(seed)
    assert len(climb(lambda rate: chance.choice([0.0, 0.5, 1.0]), top)) < 150


def test_rungs_with_a_missing_seed_decide_nothing(make_grid: MakeGrid, results_frame: Frame) -> None:
    grid = make_grid(stability__seeds=3)
    first = stability_runs(grid, pd.DataFrame())
    assert len(first) == 7 * 3
    shares = results_frame(first[:-1], lambda run: {})
    assert stability_runs(grid, shares) == first
    assert len(stability_runs(grid, results_frame(first, lambda run: {}))) == 9 * 3


def test_diverged_and_collapsed_runs_fail(make_grid: MakeGrid, results_frame: Frame) -> None:
    grid = make_grid(stability__seeds=1)

    def outcome(run: Run) -> dict[str, Any]:
        return {"status": "diverged" if run.learning_rate > 8 else "completed", "collapsed": run.learning_rate == 8}

    done: dict[str, Run] = {}
    while missing := [
        run for run in stability_runs(grid, results_frame(done.values(), outcome)) if run.run_id not in done
    ]:
        done.update((run.run_id, run) for run in missing)
    refined_rates = sorted(run.learning_rate for run in done.values() if 4 < run.learning_rate < 8)
    assert refined_rates == pytest.approx([4 * 2**0.5, 4 * 2**0.75])
    assert max(run.learning_rate for run in done.values()) == 32


def test_stability_runs_are_short_and_have_separate_seeds(make_grid: MakeGrid) -> None:
    grid = make_grid(seeds=2, stability__seeds=2, stability__steps=7, grid__learning_rate=[0.25, 4.0])
    runs = stability_runs(grid, pd.DataFrame())
    assert {(run.purpose, run.steps, run.evaluations) for run in runs} == {("stability", 7, 2)}
    assert min(run.learning_rate for run in runs) == 2.0
    assert not {run.seed for run in runs} & {0, 1}
    more = make_grid(seeds=9, stability__seeds=2, stability__steps=7, grid__learning_rate=[0.25, 4.0])
    assert stability_runs(more, pd.DataFrame()) == runs  # more seeds of the sweep leave the ladder unchanged
    other = make_grid(seeds=[5, 6], stability__seeds=2)
    assert not {run.seed for run in stability_runs(other, pd.DataFrame())} & {run.seed for run in runs}


def test_every_setting_and_batch_size_has_a_ladder(make_grid: MakeGrid) -> None:
    grid = make_grid(
        grid__width=[2, 4], grid__momentum=[0.0, 0.9], grid__batch_size=[1, 2, 4, 8, 16, 32, 60], stability__seeds=1
    )
    ladders = {(run.width, run.momentum, run.batch_size) for run in stability_runs(grid, pd.DataFrame())}
    assert len(ladders) == 2 * 2 * 5
    grid = make_grid(stability__seeds=1, stability__batch_size=[3])
    assert {run.batch_size for run in stability_runs(grid, pd.DataFrame())} == {3}
    assert stability_runs(make_grid(stability__seeds=0), pd.DataFrame()) == []


def test_at_most_five_batch_sizes_are_chosen_at_equal_ratios() -> None:
    assert default_batches((1, 2, 3)) == (1, 2, 3)
    assert default_batches(tuple(2**k for k in range(9))) == (1, 4, 16, 64, 256)
