from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.runs import LATER_KEYS, Run
from noisescale.sweeps import Grid, sweep

MakeGrid = Callable[..., Grid]

# Frozen: whoever changes what a run's identity is made of sees every finished study forgotten, and must mean it.
FROZEN = Run(
    dataset="digits",
    dataset_hash="0" * 64,
    train_size=1000,
    test_size=797,
    validation_fraction=0.0,
    label_noise=0.0,
    data_seed=0,
    family="mlp",
    depth=1,
    activation="relu",
    normalization="none",
    parameterization="ntk",
    width=16,
    learning_rate=0.5,
    batch_size=32,
    momentum=0.0,
    weight_decay=0.0,
    init_scale=2.0,
    seed=3,
    steps=100,
    schedule="constant",
    evaluations=20,
    late_fraction=0.25,
    loss="cross_entropy",
    sampling="epoch_shuffle",
    precision="float32",
)


def test_the_identity_of_a_run_is_frozen() -> None:
    assert FROZEN.run_id == "b66ddc128ce232e0"


def test_every_field_is_part_of_the_identity() -> None:
    for name, value in asdict(FROZEN).items():
        other = 8 if value is None else f"{value}x" if isinstance(value, str) else value + 1
        assert replace(FROZEN, **{name: other}).run_id != FROZEN.run_id, name


def test_a_base_width_and_query_rows_are_part_of_the_identity_only_where_they_are_used() -> None:
    assert replace(FROZEN, base_width=None, query_rows="").run_id == FROZEN.run_id
    assert len({replace(FROZEN, base_width=base).run_id for base in (None, 4, 8)}) == 3
    record = {name: value for name, value in asdict(FROZEN).items() if name not in LATER_KEYS}
    assert Run.from_record(record) == FROZEN


def test_the_grid_is_the_cross_product(make_grid: MakeGrid) -> None:
    grid = make_grid(
        seeds=[3, 7], grid__width=[2, 4], grid__batch_size=[5, 10], grid__learning_rate=[0.5, 1.0, 2.0],
        grid__momentum=[0.0, 0.9], grid__parameterization=["ntk", "standard"], grid__weight_decay=[0.0, 1e-3],
        grid__init_scale=[1.0, 2.0], grid__label_noise=[0.0, 0.1], grid__steps=[5, 10], training__steps=None,
    )  # fmt: skip
    runs = grid.runs()
    assert len(runs) == len({run.run_id for run in runs}) == 2**9 * 3
    assert {run.seed for run in runs} == {3, 7}
    assert {(run.label_noise, run.dataset_hash) for run in runs} == {
        (noise, grid.dataset(noise).hash) for noise in (0.0, 0.1)
    }


def test_more_seeds_and_longer_lists_keep_every_run(make_grid: MakeGrid) -> None:
    small = make_grid(seeds=2, grid__learning_rate={"from": 0.5, "to": 4.0, "factor": math.sqrt(2)})
    large = make_grid(
        seeds=5, grid__width=[2, 3], grid__learning_rate={"from": 0.25, "to": 16.0, "factor": math.sqrt(2)}
    )
    assert {run.run_id for run in small.runs()} < {run.run_id for run in large.runs()}


def test_an_epoch_is_one_pass_without_its_last_partial_batch(make_grid: MakeGrid) -> None:
    grid = make_grid(training__steps=None, training__epochs=2.5, grid__batch_size=[7, 60])
    assert {run.batch_size: run.steps for run in grid.runs()} == {7: round(2.5 * (60 // 7)), 60: round(2.5)}
    assert make_grid(training__steps=None, training__epochs=1e-9).runs()[0].steps == 1


@pytest.mark.parametrize("parameterization", ["ntk", "standard", "improved_standard", "mup"])
@pytest.mark.parametrize("sampling", ["subset", "with_replacement"])
@pytest.mark.parametrize("axis", ["noise_scale", "normalized_noise_scale", "temperature"])
def test_a_derived_rate_reproduces_the_value_that_was_asked_for(
    make_grid: MakeGrid, tmp_path: Path, axis: str, sampling: str, parameterization: str
) -> None:
    asked = {"noise_scale": 3.0, "normalized_noise_scale": 3.0, "temperature": 0.01}[axis]
    changes: dict[str, Any] = {
        "grid__learning_rate": None, f"grid__{axis}": [asked], "grid__batch_size": [6, 30], "grid__width": [2, 4],
        "grid__momentum": [0.0, 0.5], "grid__init_scale": [1.0, 2.0], "seeds": 1, "training__steps": 2,
        "training__evaluations": 2, "training__sampling": sampling, "grid__parameterization": [parameterization],
    }  # fmt: skip
    study = sweep(make_grid(**changes).spec, tmp_path / "out", quiet=True)
    runs = study.runs()
    assert len(runs) == 16
    assert runs[axis].tolist() == pytest.approx([asked] * 16, rel=1e-12)
    assert runs.learning_rate.nunique() > 3


def test_a_normalized_axis_needs_a_layer_that_grows(make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisescale.sweeps.grid._read_out_ratio", lambda *arguments: math.nan)
    with pytest.raises(BadInput, match="normalized_noise_scale"):
        make_grid(grid__learning_rate=None, grid__normalized_noise_scale=[1.0]).check()


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("grid.batch_size", {"grid__batch_size": [10, 61]}),
        ("grid.batch_size", {"grid__batch_size": [60], "grid__learning_rate": None, "grid__noise_scale": [1.0]}),
        ("stability.batch_size", {"stability__batch_size": [61]}),
        ("fit.select_on|validation_fraction", {"fit__select_on": "validation"}),
        ("dataset.train_size", {"dataset__train_size": 10_000}),
        ("dataset.name", {"dataset__name": "digit"}),
        ("model.family", {"model__family": "mpl"}),
        ("model.family", {"model__family": "no_such_module:factory"}),
        ("model.activation", {"model__activation": "rellu"}),
        ("grid.width", {"grid__width": [2**45]}),
        ("grid.temperature", {"grid__learning_rate": None, "grid__temperature": [1e308]}),
        ("epochs", {"training__steps": None, "training__epochs": 1e300}),
    ],
)
def test_what_no_run_could_follow_is_refused_by_key(make_grid: MakeGrid, key: str, changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=key):
        make_grid(**changes).check()


def test_the_whole_training_set_is_a_batch(make_grid: MakeGrid) -> None:
    make_grid(grid__batch_size=[60]).check()
    make_grid(
        grid__batch_size=[60], grid__learning_rate=None, grid__noise_scale=[1.0], training__sampling="with_replacement"
    ).check()
