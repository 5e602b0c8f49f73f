from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisescale.runs import Run
from noisescale.sweeps import Grid
from noisescale.sweeps.extensions import extension_runs

MakeGrid = Callable[..., Grid]
Outcome = Callable[[Run], dict[str, Any]]
Frame = Callable[[Iterable[Run], Outcome], pd.DataFrame]
Finish = Callable[..., list[Run]]
Rule = Callable[[pd.DataFrame], list[Run]]

OCTAVES = {"from": 1.0, "to": 8.0, "factor": 2.0}
ON = {"fit__extend_edges": True, "grid__learning_rate": OCTAVES}


def rule_of(grid: Grid) -> Rule:
    return lambda results: grid.runs() + extension_runs(grid, results)


def peak_at(rate: float) -> Outcome:
    return lambda run: {"test_accuracy": 0.9 - 0.1 * abs(math.log2(run.learning_rate / rate))}


@pytest.mark.parametrize(
    ("best", "rates"),
    [
        (2.0, [0.5, 1, 2, 4, 8]),  # the best rate has one rung below, so one rung is added
        (1.0, [0.25, 0.5, 1, 2, 4, 8]),
        (4.0, [1, 2, 4, 8, 16]),
        (8.0, [1, 2, 4, 8, 16, 32]),
        (16.0, [1, 2, 4, 8, 16, 32, 64]),
        (0.125, [0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8]),  # at most four rungs are added
        (1e6, [1, 2, 4, 8, 16, 32, 64, 128]),
    ],
)
def test_rungs_are_added_until_the_best_cell_has_two_on_both_sides(
    make_grid: MakeGrid, finish: Finish, best: float, rates: list[float]
) -> None:
    done = finish(rule_of(make_grid(**ON)), peak_at(best))
    assert sorted({run.learning_rate for run in done}) == rates
    assert len(done) == 2 * len(rates)


def test_a_short_ladder_gets_rungs_on_both_sides(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(fit__extend_edges=True, grid__learning_rate=[1.0, 2.0, 4.0])
    done = finish(rule_of(grid), peak_at(2.0))
    assert sorted({run.learning_rate for run in done}) == [0.5, 1, 2, 4, 8]


@pytest.mark.parametrize("changes", [{"fit__extend_edges": False}, {"grid__learning_rate": [1.0, 8.0]}])
def test_nothing_is_added_without_extensions_or_a_ladder(
    make_grid: MakeGrid, results_frame: Frame, changes: dict[str, Any]
) -> None:
    grid = make_grid(**{**ON, **changes})
    assert extension_runs(grid, results_frame(grid.runs(), peak_at(8.0))) == []


def test_nothing_is_added_to_a_ladder_that_is_not_complete(make_grid: MakeGrid, results_frame: Frame) -> None:
    grid = make_grid(**ON)
    assert extension_runs(grid, results_frame(grid.runs()[:-1], peak_at(8.0))) == []
    assert extension_runs(grid, pd.DataFrame()) == []


def test_failed_runs_count_as_the_constant_predictor(make_grid: MakeGrid, finish: Finish) -> None:
    def outcome(run: Run) -> dict[str, Any]:
        failed = {"status": "diverged", "test_accuracy": math.nan} if run.learning_rate == 8 else {"collapsed": True}
        return {**peak_at(2.83)(run), **(failed if run.learning_rate > 4 else {})}

    done = finish(rule_of(make_grid(**ON)), outcome)
    assert max(run.learning_rate for run in done) == 16


def test_the_loss_is_minimized(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**ON, fit__metric="loss")
    done = finish(rule_of(grid), lambda run: {"test_loss": abs(math.log2(run.learning_rate / 8))})
    assert max(run.learning_rate for run in done) == 32


def test_batch_sizes_are_whole_and_between_one_and_the_data(make_grid: MakeGrid, finish: Finish) -> None:
    changes = {"fit__extend_edges": True, "grid__learning_rate": [1.0], "grid__batch_size": [2, 4, 8, 16]}
    grid = make_grid(**changes)
    down = finish(rule_of(grid), lambda run: {"test_accuracy": 1 / run.batch_size})
    assert sorted({run.batch_size for run in down}) == [1, 2, 4, 8, 16]
    up = finish(rule_of(grid), lambda run: {"test_accuracy": 1 - 1 / run.batch_size})
    assert sorted({run.batch_size for run in up}) == [2, 4, 8, 16, 32]  # 64 is above the 60 examples
    finer = make_grid(**{**changes, "grid__batch_size": [3, 4, 6]})
    down = finish(rule_of(finer), lambda run: {"test_accuracy": 1 / run.batch_size})
    assert sorted({run.batch_size for run in down}) == [1, 2, 3, 4, 6]


def test_no_batch_size_is_added_that_the_normalization_cannot_use(make_grid: MakeGrid, finish: Finish) -> None:
    changes = {"fit__extend_edges": True, "grid__learning_rate": [1.0], "grid__batch_size": [6, 12, 24]}
    ghosts = {"family": "mlp", "normalization": "ghost_batch", "ghost_size": 4}
    grid = make_grid(**{**changes, "grid__batch_size": [2, 4, 8, 16]}, model=ghosts)
    down = finish(rule_of(grid), lambda run: {"test_accuracy": 1 / run.batch_size})
    assert sorted({run.batch_size for run in down}) == [2, 4, 8, 16]  # a batch of 1 has no variance
    plain, ghosts = make_grid(**changes), make_grid(**{**changes, "grid__batch_size": [3, 8, 20]}, model=ghosts)
    for grid, more in ((plain, [48]), (ghosts, [])):  # the next size, 20·20/8 = 50, is not a multiple of 4
        up = finish(rule_of(grid), lambda run: {"test_accuracy": 1 - 1 / run.batch_size})
        assert [size for size in sorted({run.batch_size for run in up}) if size > 24] == more


def test_an_added_batch_size_keeps_the_stated_budget(make_grid: MakeGrid, finish: Finish) -> None:
    changes = {"fit__extend_edges": True, "grid__learning_rate": [1.0], "grid__batch_size": [4, 8, 16]}
    steps = finish(rule_of(make_grid(**changes)), lambda run: {})
    assert {run.steps for run in steps} == {12}
    epochs = make_grid(**changes, training__steps=None, training__epochs=3.0)
    done = finish(rule_of(epochs), lambda run: {"test_accuracy": 1 / run.batch_size})
    assert {run.batch_size: run.steps for run in done} == {b: 3 * (60 // b) for b in (1, 2, 4, 8, 16)}


def test_added_rungs_of_a_temperature_axis_give_their_learning_rates(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(fit__extend_edges=True, grid__learning_rate=None, grid__temperature=[0.1, 0.2, 0.4])
    done = finish(rule_of(grid), lambda run: {"test_accuracy": run.learning_rate / 1000})
    assert sorted({run.learning_rate for run in done}) == pytest.approx([1, 2, 4, 8, 16, 32, 64])


def late_from(steps: int) -> Outcome:
    return lambda run: {**peak_at(4.0)(run), "late": run.steps >= steps}


@pytest.mark.parametrize(
    ("late", "limit", "longest"), [(12, 3, 12), (13, 3, 24), (25, 3, 48), (10**6, 3, 96), (10**6, 0, 12)]
)
def test_budgets_are_doubled_until_the_best_cell_and_its_neighbours_converge(
    make_grid: MakeGrid, finish: Finish, late: int, limit: int, longest: int
) -> None:
    grid = make_grid(**{**ON, "fit__extend_edges": False}, training__max_extensions=limit)
    done = finish(rule_of(grid), late_from(late))
    assert {run.steps for run in done} == {12 * 2**level for level in range(int(math.log2(longest / 12)) + 1)}
    per_budget = [sum(run.steps == steps for run in done) for steps in {run.steps for run in done}]
    assert set(per_budget) == {8}  # four rates with two seeds each


def test_only_the_best_cell_and_its_neighbours_decide_about_the_budget(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**{**ON, "fit__extend_edges": False}, training__max_extensions=2)

    def outcome(run: Run) -> dict[str, Any]:
        return {**peak_at(4.0)(run), "late": run.learning_rate > 1}

    assert {run.steps for run in finish(rule_of(grid), outcome)} == {12}


def test_a_cell_that_diverged_does_not_ask_for_longer_budgets(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**{**ON, "fit__extend_edges": False}, training__max_extensions=2)

    def outcome(run: Run) -> dict[str, Any]:
        return {"status": "diverged", "late": False} if run.learning_rate == 8 else peak_at(4.0)(run)

    assert {run.steps for run in finish(rule_of(grid), outcome)} == {12}


def test_the_budget_of_one_width_is_doubled_alone(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**ON, grid__width=[2, 4], training__max_extensions=1)
    done = finish(rule_of(grid), lambda run: {**peak_at(2.0)(run), "late": run.width == 2 or run.steps > 12})
    assert {(run.width, run.steps) for run in done} == {(2, 12), (4, 12), (4, 24)}
    assert {run.learning_rate for run in done if run.steps == 24} == {0.5, 1, 2, 4, 8}


def test_more_seeds_complete_the_rungs_with_results(make_grid: MakeGrid, finish: Finish, results_frame: Frame) -> None:
    few = finish(rule_of(make_grid(**ON, seeds=2)), peak_at(8.0))
    more = make_grid(**ON, seeds=3)

    def outcome(run: Run) -> dict[str, Any]:  # with the third seed, the optimum no longer lies near an end
        return peak_at(2.0)(run) if run.seed < 2 else {"test_accuracy": 9.0 if run.learning_rate == 2 else 0.1}

    done = {run.run_id: run for run in few}
    while missing := [run for run in rule_of(more)(results_frame(done.values(), outcome)) if run.run_id not in done]:
        done.update((run.run_id, run) for run in missing)
    seeds = pd.DataFrame([(run.learning_rate, run.seed) for run in done.values()]).groupby(0)[1].nunique()
    assert set(seeds) == {3}
    assert max(seeds.index) == 32


@settings(max_examples=12)
@given(data=st.data())
def test_an_interrupted_sweep_plans_the_same_runs(make_grid: MakeGrid, finish: Finish, data: st.DataObject) -> None:
    noise = data.draw(st.integers(0, 10**6))
    best = data.draw(st.sampled_from([0.1, 1.0, 2.0, 8.0, 100.0]))
    grid = make_grid(**ON, grid__batch_size=[5, 10], training__max_extensions=1)

    def outcome(run: Run) -> dict[str, Any]:
        chance = random.Random(f"{noise} {run.run_id}")
        status = "diverged" if chance.random() < 0.2 else "completed"
        accuracy = peak_at(best)(run)["test_accuracy"] + chance.gauss(0, 0.3)
        late = random.Random(f"{noise} {run.width} {run.learning_rate}").random() < 0.7
        return {"test_accuracy": accuracy, "status": status, "late": late}

    once = {run.run_id for run in finish(rule_of(grid), outcome)}
    torn = finish(rule_of(grid), outcome, random.Random(noise))
    assert {run.run_id for run in torn} == once
