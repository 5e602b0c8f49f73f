"""Sweeps with schedules: the spec, the runs, the curves of the study, and the laws of each schedule."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit
from noisescale.laws.foreign_runs import set_foreign_aside
from noisescale.store import Study
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.estimates import dry_run
from noisescale.sweeps.stability_ladder import stability_runs

MakeGrid = Callable[..., Grid]
MakeSpec = Callable[..., SweepSpec]
STEP = {"kind": "step", "at": [0.5], "factor": 0.5}
GROWING = {**STEP, "of": "batch_size"}


def test_a_study_holds_the_rate_and_batch_size_of_every_evaluation(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(
        grid__schedule=[STEP, GROWING, {"kind": "constant"}], grid__learning_rate=[0.5],
        training={"epochs": 4, "evaluations": 4},
    )  # fmt: skip
    study = sweep(spec, tmp_path, quiet=True)
    runs, curves = study.runs().set_index("run_id"), study.curves().set_index("run_id")
    moving = runs.schedule.str.endswith('of="batch_size"')
    # With 60 examples, an epoch has 6 steps at batch size 10 and 3 steps at batch size 20.
    assert set(runs[~moving].steps) == {24} and set(runs[moving].steps) == {2 * 6 + 2 * 3}
    assert set(runs.epochs) == {4.0}
    for run_id, run in runs.iterrows():
        curve = curves.loc[run_id]
        np.testing.assert_allclose(curve.epoch, [0, 1, 2, 3, 4])
        halve_runs_at_once = run.schedule != "constant"
        later = [1, 1, 1, 0.5, 0.5] if halve_runs_at_once else [1] * 5
        np.testing.assert_allclose(curve.learning_rate, 0.5 * np.array(later if not moving[run_id] else [1] * 5))
        np.testing.assert_allclose(curve.batch_size, 10 / np.array(later if moving[run_id] else [1] * 5))
        assert curve.step.iloc[-1] == run.steps
    assert (curves.groupby("run_id").size() == 5).all()


def test_every_schedule_has_separate_laws_over_all_its_batch_sizes(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(
        seeds=2, grid__schedule=[GROWING, {"kind": "cosine"}], grid__learning_rate=[0.5],
        grid__batch_size=[2, 4, 8, 16, 30], training={"epochs": 3, "evaluations": 2},
        stability={"seeds": 1, "steps": 5, "batch_size": [8]},
    )  # fmt: skip
    report = fit(sweep(spec, tmp_path, quiet=True))
    assert [group.varied["schedule"].split(" ")[0] for group in report.groups] == ["step", "cosine"]
    for group in report.groups:
        (width,) = group.series[0].widths
        assert len(width.cells) == 5
        # The growing batch is compared with the edge of constant rates, and the cosine with the edge under a cosine.
        assert len(group.edges) == 1


def test_a_list_of_schedules_may_grow(tmp_path: Path, make_spec: MakeSpec) -> None:
    few = sweep(make_spec(grid__schedule=[STEP]), tmp_path, quiet=True).runs()
    more = sweep(make_spec(grid__schedule=[STEP, {"kind": "cosine"}]), tmp_path, quiet=True).runs()
    assert set(few.run_id) < set(more.run_id) and len(more) == 2 * len(few)
    with pytest.raises(BadInput, match="grid.schedule"):
        sweep(make_spec(grid__schedule=[{"kind": "cosine"}]), tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("schedule", "stated", "expected"),
    [
        ({"kind": "cosine", "warmup": 0.1}, "run", "cosine after_warmup=true warmup=0.1"),
        ({"kind": "cosine", "warmup": 0.1}, "constant", "constant"),
        ({"kind": "cosine", "of": "batch_size"}, "run", "constant"),
    ],
)
def test_a_stability_ladder_has_the_schedule_of_the_rate(
    make_grid: MakeGrid, schedule: dict[str, Any], stated: str, expected: str
) -> None:
    stability = {"seeds": 1, "steps": 5, "schedule": stated}
    grid = make_grid(training__schedule=schedule, stability=stability)
    assert {run.schedule for run in stability_runs(grid, pd.DataFrame())} == {expected}
    assert len({run.schedule for run in grid.runs()} - {"constant"}) == 1


def test_a_folder_of_an_older_version_keeps_its_ladders_of_constant_rates(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(training__schedule={"kind": "cosine"}, stability={"seeds": 1, "steps": 5, "batch_size": [8]})
    constant = make_spec(
        training__schedule={"kind": "cosine"},
        stability={"seeds": 1, "steps": 5, "batch_size": [8], "schedule": "constant"},
    )
    before = sweep(constant, tmp_path, quiet=True).runs()
    stored = json.loads((tmp_path / "spec.json").read_text())
    del stored["stability"]["schedule"]
    (tmp_path / "spec.json").write_text(json.dumps(stored))
    assert set(sweep(spec, tmp_path, quiet=True).runs().run_id) == set(before.run_id)


def test_a_folder_of_version_01_keeps_the_fall_that_begins_at_the_first_step(
    tmp_path: Path, make_spec: MakeSpec
) -> None:
    old, new = ({"kind": "linear", "warmup": 0.5, **more} for more in ({"after_warmup": False}, {}))
    before = sweep(make_spec(training__schedule=old), tmp_path, quiet=True)
    stored = json.loads((tmp_path / "spec.json").read_text())
    assert stored["training"]["schedule"].pop("after_warmup") is False
    (tmp_path / "spec.json").write_text(json.dumps(stored))
    study = Study.open(tmp_path)
    assert study.spec["training"]["schedule"]["after_warmup"] is False
    assert not set_foreign_aside(study.runs(), study.spec, study.data_digests())[1]
    assert set(sweep(make_spec(training__schedule=old), tmp_path, quiet=True).runs().run_id) == set(
        before.runs().run_id
    )
    with pytest.raises(BadInput, match="training.schedule.after_warmup"):
        sweep(make_spec(training__schedule=new), tmp_path, quiet=True)
    curves = sweep(make_spec(training__schedule=new), tmp_path / "new", quiet=True).curves()
    assert curves.learning_rate.max() == pytest.approx(max(before.spec["grid"]["learning_rate"]), rel=1e-12)


def test_a_run_whose_rate_falls_to_the_end_is_scored_by_its_last_evaluation(
    tmp_path: Path, make_spec: MakeSpec
) -> None:
    falling, low = {"kind": "warmup_stable_decay", "warmup": 0.1}, {"kind": "step", "at": [0.5], "factor": 0.25}
    spec = make_spec(
        seeds=2, grid__schedule=[falling, low], training={"steps": 40, "evaluations": 20}, stability={"seeds": 0}
    )
    study = sweep(spec, tmp_path, quiet=True)
    runs, curves = study.runs().set_index("run_id"), study.curves().groupby("run_id")
    for run_id, run in runs.iterrows():
        test = curves.get_group(run_id).test_loss.to_numpy()
        if run.schedule.startswith("step"):
            assert run.test_loss == pytest.approx(test[-5:].mean(), rel=1e-12) and run.test_loss != test[-1]
            assert run.drift_test_loss == pytest.approx(test[-5:].mean() - test[-10:-5].mean(), abs=1e-12)
        else:
            assert run.test_loss == test[-1] and math.isnan(run.drift_test_loss) and run.late


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training__schedule": {**GROWING, "largest_batch": 5}}, "training.schedule: a largest_batch of at least"),
        (
            {
                "model": {"family": "convnet", "normalization": "ghost_batch", "ghost_size": 8},
                "grid__batch_size": [8],
                "training__schedule": {**GROWING, "factor": 0.8},
            },
            "training.schedule: batches for which",
        ),
        ({"training__precision": "tf32"}, "training.precision: 'tf32' with --device cuda only"),
        ({"training__augmentation": ["flip"], "dataset": {"name": "mnist1d", "train_size": 60}}, "no augmentation"),
    ],
)
def test_an_impossible_schedule_is_refused_before_writing(
    changes: dict[str, object], named: str, tmp_path: Path, make_spec: MakeSpec
) -> None:
    for command in (sweep, dry_run):
        with pytest.raises(BadInput, match=named):
            command(make_spec(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
