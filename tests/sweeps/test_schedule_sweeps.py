"""Sweeps with schedules: the spec, the runs, the curves of the study, and the laws of each schedule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.estimates import dry_run

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
        # The optima of both schedules are compared with the stability edge of constant rates.
        assert len(group.edges) == 1


def test_a_list_of_schedules_may_grow(tmp_path: Path, make_spec: MakeSpec) -> None:
    few = sweep(make_spec(grid__schedule=[STEP]), tmp_path, quiet=True).runs()
    more = sweep(make_spec(grid__schedule=[STEP, {"kind": "cosine"}]), tmp_path, quiet=True).runs()
    assert set(few.run_id) < set(more.run_id) and len(more) == 2 * len(few)
    with pytest.raises(BadInput, match="grid.schedule"):
        sweep(make_spec(grid__schedule=[{"kind": "cosine"}]), tmp_path, quiet=True)


def test_a_stability_ladder_trains_at_constant_rates(make_grid: MakeGrid) -> None:
    import pandas as pd

    from noisescale.sweeps.stability_ladder import stability_runs

    grid = make_grid(training__schedule={"kind": "cosine"}, stability={"seeds": 1, "steps": 5})
    assert {run.schedule for run in stability_runs(grid, pd.DataFrame())} == {"constant"}
    assert {run.schedule for run in grid.runs()} == {"cosine"}


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
