"""Sweeps of parameterizations with a base width: their runs, refused specs, and the columns of the study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.folder import check_folder, create_folder, prepare_folder
from noisescale.sweeps.grid_checks import check_grid

MakeGrid = Callable[..., Grid]
MakeSpec = Callable[..., SweepSpec]

MODELS = """
from torch import nn

def fixed(width, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, classes))

class Attention(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.embed, self.qkv = nn.Linear(8, width), nn.Linear(width, 3 * width)
        self.read_out = nn.Linear(width, classes)

    def forward(self, x):
        q, k, v = self.qkv(self.embed(x.flatten(1).unflatten(1, (8, 8)))).chunk(3, -1)
        return self.read_out(((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).mean(1))

def attention(width, shape, classes):
    return Attention(width, classes)
"""


@pytest.fixture
def models_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a Python module that defines model factories of a user, and return the name of the module."""
    (tmp_path / "models_with_width.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    return "models_with_width"


def test_only_runs_that_use_a_base_width_have_one(make_grid: MakeGrid) -> None:
    names = ["standard", "ntk", "improved_standard", "mup", "own"]
    grid = make_grid(grid__width=[2, 4], grid__parameterization=names, grid__base_width=3)
    check_grid(grid)
    base_widths = {run.parameterization: run.base_width for run in grid.runs()}
    assert base_widths == {"standard": None, "ntk": None, "improved_standard": 3, "mup": 3, "own": None}
    alone = {run.run_id for run in make_grid(grid__width=[2, 4], grid__parameterization=["ntk"]).runs()}
    assert alone < {run.run_id for run in grid.runs()}
    other = make_grid(grid__width=[2, 4], grid__parameterization=names, grid__base_width=2)
    same = {run.run_id for run in grid.runs()} & {run.run_id for run in other.runs()}
    assert len(same) == len(grid.runs()) * 3 // 5


def test_the_study_holds_the_multipliers_and_noise_of_every_layer(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(
        seeds=1, grid__width=[4, 8, 16], grid__parameterization=["improved_standard", "mup"], grid__base_width=8,
        grid__learning_rate=[0.1], training__steps=2, training__evaluations=2,
        stability={"seeds": 1, "steps": 2},
    )  # fmt: skip
    study = sweep(spec, tmp_path / "out", quiet=True)
    runs = study.runs()
    assert set(runs.base_width) == {8}
    assert set(runs.purpose) == {"sweep", "stability"}
    layers = study.layers().merge(runs[["run_id", "parameterization", "width", "noise_scale"]], on="run_id")
    for row in layers[layers.layer.str.endswith("weight")].itertuples():
        ratio, mup, last = row.width / 8, row.parameterization == "mup", row.layer == "3.weight"
        fan_in = row.width if last else 64
        assert row.fan_in == fan_in and row.is_reference == last
        multiplier = 1 / ratio if last else ratio if mup else 1.0
        assert row.multiplier == pytest.approx(multiplier, rel=1e-12)
        variance = 2 / fan_in / (ratio if mup and last else 1.0)
        assert row.init_variance == pytest.approx(variance, rel=1e-12)
        assert row.normalized_noise_scale == pytest.approx(row.noise_scale * multiplier / variance, rel=1e-12)
    reference = runs.normalized_noise_scale / runs.noise_scale
    expected = runs.width.where(runs.parameterization == "mup", 8) / 2
    assert reference.tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def test_a_larger_grid_cannot_change_the_base_width(make_spec: MakeSpec, tmp_path: Path) -> None:
    create_folder(tmp_path)
    prepare_folder(tmp_path, make_spec(grid__width=[4, 8], grid__parameterization=["mup"]))
    check_folder(tmp_path, make_spec(grid__width=[4, 8, 16], grid__parameterization=["mup", "ntk"]))
    with pytest.raises(BadInput, match="grid.base_width"):
        check_folder(tmp_path, make_spec(grid__width=[2, 4, 8], grid__parameterization=["mup"]))
    check_folder(tmp_path, make_spec(grid__width=[2, 4, 8], grid__parameterization=["mup"], grid__base_width=4))


def test_a_folder_without_a_base_width_accepts_one(make_spec: MakeSpec, tmp_path: Path) -> None:
    create_folder(tmp_path)
    prepare_folder(tmp_path, make_spec(grid__width=[4, 8]))
    # Store the spec as a version without base widths did.
    plain = json.loads((tmp_path / "spec.json").read_text())
    del plain["grid"]["base_width"], plain["model"]["query_rows"]
    (tmp_path / "spec.json").write_text(json.dumps(plain))
    check_folder(tmp_path, make_spec(grid__width=[4, 8]))
    check_folder(tmp_path, make_spec(grid__width=[4, 8], grid__parameterization=["ntk", "mup"]))


def test_only_runs_of_mup_have_query_rows(make_grid: MakeGrid, models_module: str) -> None:
    changes: dict[str, Any] = {
        "model": {"family": f"{models_module}:attention", "query_rows": ["qkv.weight[:1/3]"]},
        "grid__width": [4, 8],
        "grid__parameterization": ["ntk", "mup"],
    }
    grid = make_grid(**changes)
    check_grid(grid)
    assert {(run.parameterization, run.query_rows) for run in grid.runs()} == {("ntk", ""), ("mup", "qkv.weight[:1/3]")}
    with pytest.raises(BadInput, match=r"model.query_rows.*it has embed.weight"):
        model = {"family": f"{models_module}:attention", "query_rows": ["query.weight"]}
        check_grid(make_grid(**{**changes, "model": model}))


@pytest.mark.parametrize("name", ["improved_standard", "mup"])
def test_a_model_that_does_not_grow_is_refused(make_grid: MakeGrid, models_module: str, name: str) -> None:
    with pytest.raises(BadInput, match="grid.parameterization.*whose fan-in grows"):
        check_grid(make_grid(model={"family": f"{models_module}:fixed"}, grid__parameterization=["ntk", name]))
