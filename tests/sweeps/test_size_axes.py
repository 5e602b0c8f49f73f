"""Sweeps over budgets and training sizes: every size has its data, its runs and its group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit
from noisescale.sweeps import SweepSpec, sweep
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.session import check_data

MakeSpec = Callable[..., SweepSpec]


@pytest.fixture
def sizes(make_spec: MakeSpec) -> SweepSpec:
    return make_spec(
        dataset__train_size=None,
        grid__train_size=[40, 60],
        grid__steps=[6, 12],
        training__steps=None,
        stability__seeds=2,
        stability__steps=5,
    )


def test_runs_train_on_the_data_of_their_size(sizes: SweepSpec, tmp_path: Path) -> None:
    study = sweep(sizes, tmp_path, quiet=True)
    runs, grid = study.runs(), Grid(sizes)
    assert (runs.status != "failed").all()
    assert set(zip(runs.train_size, runs.dataset_hash, strict=True)) == {
        (size, grid.dataset(0.0, size).hash) for size in (40, 60)
    }
    assert study.data_digests() == {0.0: tuple(grid.dataset(0.0, size).hash for size in (40, 60))}
    groups = fit(study).groups
    assert {(group.hyperparameters["train_size"], group.hyperparameters["steps"]) for group in groups} == {
        (size, steps) for steps in (6, 12) for size in (40, 60)
    }
    assert all(group.edges for group in groups)
    # The same spec trains nothing more, and data of other sizes belong to another study.
    assert len(sweep(sizes, tmp_path, quiet=True).runs()) == len(runs)


def test_a_smaller_set_is_part_of_a_larger_one(sizes: SweepSpec) -> None:
    small, large = (Grid(sizes).dataset(0.0, size) for size in (40, 60))
    assert len(small.x_train) == 40 and len(large.x_train) == 60
    assert small.y_train.tolist() == large.y_train[:40].tolist()


def test_runs_on_a_size_that_the_spec_no_longer_has_are_refused(
    sizes: SweepSpec, make_spec: MakeSpec, tmp_path: Path
) -> None:
    sweep(sizes, tmp_path, quiet=True)
    with pytest.raises(BadInput, match="the arrays with which this folder was created"):
        check_data(tmp_path, Grid(make_spec(dataset__train_size=60)))


def test_sizes_are_stated_in_one_place(make_spec: MakeSpec) -> None:
    with pytest.raises(BadInput, match=r"dataset\.train_size or grid\.train_size.*both"):
        make_spec(grid__train_size=[40, 60])


def test_batches_fit_the_smallest_size(make_spec: MakeSpec) -> None:
    spec = make_spec(dataset__train_size=None, grid__train_size=[8, 60], grid__batch_size=[10])
    with pytest.raises(BadInput, match=r"grid\.batch_size: at most the 8 training examples"):
        spec.runs()
