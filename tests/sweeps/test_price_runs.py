"""Planning of the cells that measure the price of a larger rate, on planted results.

A planted edge is 12·(1 − m)·B/(B + 4), and the best cell has 16 of 1,000 examples at rate 1.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE
from noisescale.runs import Run
from noisescale.sweeps import Grid, SweepSpec, measured_times, status, sweep
from noisescale.sweeps.driver import required_runs
from noisescale.sweeps.estimates import dry_run
from noisescale.sweeps.extensions import extension_runs
from noisescale.sweeps.folder import check_folder, continued_spec, create_folder, prepare_folder
from noisescale.sweeps.price_runs import FIRST_SEED, SHARES, price_notes, price_runs
from noisescale.sweeps.stability_ladder import stability_ladders

MakeGrid = Callable[..., Grid]
MakeSpec = Callable[..., SweepSpec]
Outcome = Callable[[Run], dict[str, Any]]
Frame = Callable[[Iterable[Run], Outcome], pd.DataFrame]
Finish = Callable[..., list[Run]]


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let dry runs take the planned times, which takes no time."""
    monkeypatch.setattr(measured_times, "MEASURED_SECONDS", 0.0)


PRICED: dict[str, Any] = {
    "dataset__train_size": 1000,
    "grid__learning_rate": [1.0],
    "grid__batch_size": [8, 16, 32],
    "grid__width": [2, 4],
    "seeds": 3,
    "training__steps": 6000,
    "stability__seeds": 8,
    "stability__batch_size": [4, 16, 64],
}


def planted_edge(batch_size: int, momentum: float = 0.0) -> float:
    return 12 * (1 - momentum) * batch_size / (batch_size + 4)


def outcome(run: Run) -> dict[str, Any]:
    if run.purpose == "stability":
        spread = math.exp(0.1 * random.Random(f"{run.seed} {run.width}").gauss(0, 1))
        edge = planted_edge(run.batch_size, run.momentum) * spread
        return {"status": "diverged" if run.learning_rate > edge else "completed"}
    return {"test_accuracy": 0.9 - 0.1 * abs(math.log2(run.batch_size / 16)), "test_loss": run.batch_size}


def prices(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.purpose == "price"]


def noise(run: Run) -> float:
    replacement = run.sampling == "with_replacement"
    return run.learning_rate * SGD_NOISE.per_rate(
        NOISE_SCALE.name, run.batch_size, run.train_size, run.momentum, replacement=replacement
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"grid__momentum": [0.9], "grid__learning_rate": [0.1]},
        {"training__sampling": "with_replacement"},
        {"grid__learning_rate": None, "grid__noise_scale": [61.5]},
    ],
    ids=str,
)
def test_noise_and_time_are_those_of_the_best_cell(
    make_grid: MakeGrid, finish: Finish, changes: dict[str, Any]
) -> None:
    runs = finish(partial(required_runs, make_grid(**PRICED | changes)), outcome)
    cells = {run.batch_size: run for run in prices(runs)}
    best = next(run for run in runs if run.purpose == "sweep" and run.width == 4 and run.batch_size == 16)
    assert len(cells) == len(SHARES)
    for batch_size, share in zip(sorted(cells), SHARES, strict=True):
        run = cells[batch_size]
        assert noise(run) == pytest.approx(noise(best), rel=1e-12)
        # Steps are whole numbers.
        assert abs(run.learning_rate * run.steps - best.learning_rate * best.steps) <= 0.51 * run.learning_rate
        # The planted edge varies by 10 % between seeds, and its ladder has a resolution of 19 %.
        assert run.learning_rate / planted_edge(batch_size, run.momentum) == pytest.approx(share, rel=0.2)


def test_the_cells_have_few_separate_seeds_at_the_largest_width(make_grid: MakeGrid, finish: Finish) -> None:
    runs = prices(finish(partial(required_runs, make_grid(**PRICED)), outcome))
    assert {run.width for run in runs} == {4}
    assert {run.seed for run in runs} == {FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2}
    assert len(runs) == 3 * len(SHARES)
    many = prices(finish(partial(required_runs, make_grid(**PRICED | {"seeds": list(range(7, 15))})), outcome))
    assert {run.seed for run in many} == {FIRST_SEED + 7 + index for index in range(5)}
    single = prices(finish(partial(required_runs, make_grid(**PRICED | {"grid__width": [2]})), outcome))
    assert {run.width for run in single} == {2}


def test_the_cells_wait_for_every_run_of_the_largest_width(
    make_grid: MakeGrid, finish: Finish, results_frame: Frame
) -> None:
    grid = make_grid(**PRICED)
    runs = finish(partial(required_runs, grid), outcome)
    planned = prices(runs)
    assert price_runs(grid, pd.DataFrame()) == []
    for purpose in ("sweep", "stability"):
        for width, expected in ((2, planned), (4, [])):
            last = next(run for run in runs if run.purpose == purpose and run.width == width)
            assert price_runs(grid, results_frame([run for run in runs if run != last], outcome)) == expected


def test_an_interrupted_sweep_plans_the_same_runs(make_grid: MakeGrid, finish: Finish) -> None:
    # The best batch size lies at an end of the ladder, so extensions move it from 32 to 45.
    changes = {"fit__extend_edges": True, "grid__batch_size": [16, 23, 32], "grid__learning_rate": [2.0]}
    grid = make_grid(**PRICED | changes)

    def rising(run: Run) -> dict[str, Any]:
        return outcome(run) | {"test_accuracy": 0.9 - 0.1 * abs(math.log2(run.batch_size / 45))}

    undisturbed = finish(partial(required_runs, grid), rising)
    at_once = {run.run_id for run in undisturbed}
    assert len(prices(undisturbed)) == 3 * len(SHARES)
    assert max(run.batch_size for run in undisturbed if run.purpose == "sweep") > 32
    for seed in range(5):
        interrupted = finish(partial(required_runs, grid), rising, random.Random(seed))
        assert {run.run_id for run in interrupted} == at_once


def test_a_longer_budget_is_the_reference(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**PRICED, training__max_extensions=1)
    runs = finish(partial(required_runs, grid), lambda run: outcome(run) | {"late": run.steps > 6000})
    for run in prices(runs):
        assert run.learning_rate * run.steps == pytest.approx(12000, abs=run.learning_rate)


def test_a_budget_in_epochs_stays_equal(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**PRICED | {"training__steps": None, "training__epochs": 20.0})
    cells = prices(finish(partial(required_runs, grid), outcome))
    assert len({run.batch_size for run in cells}) == len(SHARES)
    for run in cells:
        assert run.steps == 20 * (1000 // run.batch_size)


def test_every_setting_has_its_cells(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**PRICED | {"grid__weight_decay": [0.0, 0.001], "grid__optimizer": ["sgd", "adamw"]})
    cells = prices(finish(partial(required_runs, grid), outcome))
    assert {(run.optimizer, run.weight_decay) for run in cells} == {("sgd", 0.0), ("sgd", 0.001)}
    assert len(cells) == 2 * 3 * len(SHARES)


def test_instruments_measure_only_the_grid(make_grid: MakeGrid, finish: Finish) -> None:
    grid = make_grid(**PRICED, measure__quantities=["rotation"], training__average=True)
    cells = prices(finish(partial(required_runs, grid), outcome))
    assert cells and {(run.measure, run.average) for run in cells} == {("", False)}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grid__optimizer": ["adamw"]}, "adamw has no noise scale"),
        ({"stability__seeds": 0}, "stability.seeds of at least 6, got 0"),
        ({"stability__seeds": 5}, "stability.seeds of at least 6, got 5"),
        ({"seeds": 1}, "at least two seeds, got one"),
        ({"training__schedule": {"kind": "step", "at": [0.5], "factor": 0.5, "of": "batch_size"}}, "batch size"),
        ({"stability__price": False}, ""),
    ],
    ids=str,
)
def test_specs_without_a_price_have_no_cells(
    tmp_path: Path, make_spec: MakeSpec, finish: Finish, results_frame: Frame, changes: dict[str, Any], reason: str
) -> None:
    spec = make_spec(**PRICED | changes)
    grid = Grid(spec)
    runs = finish(partial(required_runs, grid), outcome)
    assert not prices(runs)
    assert price_notes(grid, results_frame(runs, outcome)) == []
    notes = dry_run(spec, tmp_path / "out").notes
    assert [reason in note for note in notes] == ([True] if reason else [])


def test_a_dry_run_announces_the_cells(tmp_path: Path, make_spec: MakeSpec) -> None:
    (note,) = dry_run(make_spec(**PRICED), tmp_path / "out").notes
    assert "up to 3 cells of 3 seeds at width 4 follow" in note


def stable(run: Run) -> dict[str, Any]:
    return outcome(run) | {"status": "completed"}


def failing(run: Run) -> dict[str, Any]:
    return outcome(run) | ({} if run.purpose == "stability" else {"status": "diverged"})


@pytest.mark.parametrize(
    ("changes", "result", "reason"),
    [
        ({}, stable, "no stability edge was found at width 4"),
        ({}, failing, "every run at width 4 failed"),
        ({"grid__learning_rate": [0.01]}, outcome, "fewer than two of the shares 0.2, 0.35, 0.5"),
        ({"grid__batch_size": [1000]}, outcome, "the best cell has no gradient noise"),
    ],
    ids=["no edge", "all failed", "no shares", "no noise"],
)
def test_one_note_explains_why_results_allow_no_cells(
    make_grid: MakeGrid, finish: Finish, results_frame: Frame, changes: dict[str, Any], result: Outcome, reason: str
) -> None:
    grid = make_grid(**PRICED | changes)
    runs = finish(partial(required_runs, grid), result)
    assert not prices(runs)
    (note,) = price_notes(grid, results_frame(runs, result))
    assert reason in note


def test_batches_stay_near_the_measured_edges(make_grid: MakeGrid, finish: Finish) -> None:
    # With edges measured up to 32 examples, batches go up to 64, where the rate is 0.37 of the edge.
    changes = {"stability__batch_size": [4, 16, 32]}
    sizes = {run.batch_size for run in prices(finish(partial(required_runs, make_grid(**PRICED | changes)), outcome))}
    assert len(sizes) == 2 and max(sizes) <= 64
    # A batch has at most half of the training set.
    small = {"dataset__train_size": 60, "grid__learning_rate": [1.6], "stability__batch_size": [4, 16, 48]}
    sizes = {run.batch_size for run in prices(finish(partial(required_runs, make_grid(**PRICED | small)), outcome))}
    assert sizes and max(sizes) <= 30


def test_the_edge_is_the_median_of_the_thresholds(make_grid: MakeGrid, finish: Finish, results_frame: Frame) -> None:
    grid = make_grid(**PRICED | {"grid__width": [2]})
    frame = results_frame(finish(partial(required_runs, grid), outcome), outcome)
    for ladder in stability_ladders(grid, frame):
        spread = [math.exp(0.1 * random.Random(f"{seed} 2").gauss(0, 1)) for seed in ladder.seeds]
        # The ladder has a resolution of a fourth root of 2, so a threshold is known to an eighth root.
        assert math.log(ladder.edge() / planted_edge(ladder.base.batch_size)) == pytest.approx(
            np.log(spread).mean(), abs=math.log(2) / 8 + 0.05
        )
    assert all(math.isnan(ladder.edge()) for ladder in stability_ladders(grid, pd.DataFrame()))


def without_the_key(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    del spec["stability"]["price"]
    (folder / "spec.json").write_text(json.dumps(spec))


def test_a_stored_spec_without_the_key_measures_no_price(tmp_path: Path, make_spec: MakeSpec) -> None:
    create_folder(tmp_path)
    assert continued_spec(tmp_path, make_spec()).stability.price
    prepare_folder(tmp_path, make_spec())
    assert continued_spec(tmp_path, make_spec()).stability.price
    with pytest.raises(BadInput, match=r"stability\.price"):
        check_folder(tmp_path, make_spec(stability__price=False))
    without_the_key(tmp_path)
    for _ in range(2):
        assert not continued_spec(tmp_path, make_spec()).stability.price
        prepare_folder(tmp_path, make_spec())
        assert json.loads((tmp_path / "spec.json").read_text())["stability"]["price"] is False
    assert continued_spec(tmp_path, make_spec(stability__price=True)).stability.price
    prepare_folder(tmp_path, make_spec(stability__price=True))
    assert continued_spec(tmp_path, make_spec()).stability.price


def test_a_finished_folder_of_an_older_version_trains_prices_only_if_asked(tmp_path: Path, make_spec: MakeSpec) -> None:
    small = {
        "dataset": {"name": "digits", "train_size": 400, "test_size": 200}, "grid__width": [8],
        "grid__learning_rate": [0.25], "grid__batch_size": [2, 4, 8], "training__steps": 120,
        "stability": {"seeds": 6, "steps": 30, "batch_size": [2, 8, 32]}, "seeds": 2,
    }  # fmt: skip
    priced = {**small, "stability": {**small["stability"], "price": True}}
    unpriced = {**small, "stability": {**small["stability"], "price": False}}
    before = sweep(make_spec(**unpriced), tmp_path, quiet=True).runs()
    without_the_key(tmp_path)
    assert len(sweep(make_spec(**small), tmp_path, quiet=True).runs()) == len(before)
    study = sweep(make_spec(**priced), tmp_path, quiet=True)
    runs = study.runs()
    added = runs[~runs.run_id.isin(before.run_id)]
    assert len(added) >= 4 and set(added.purpose) == {"price"}
    assert added.test_accuracy.notna().all() and added.noise_scale.to_numpy() == pytest.approx(added.noise_scale.max())
    assert len(extension_runs(Grid(study_spec := make_spec(**priced)), study.finished())) == 0
    assert dry_run(study_spec, tmp_path).packs == 0
    assert status(tmp_path).missing == 0
    price = fit(study).groups[0].rate_price
    assert price is not None and len(price.cells) == added.batch_size.nunique()
