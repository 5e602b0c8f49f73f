from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.families import ModelOptions
from noisescale.runs import LATER_KEYS, Run
from noisescale.sweeps import Grid, sweep
from noisescale.sweeps.grid_checks import check_grid
from noisescale.sweeps.stability_ladder import stability_runs

MakeGrid = Callable[..., Grid]

# This run and its id must not change: if ids change, every finished study trains all its runs again.
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


def test_the_id_of_a_run_does_not_change() -> None:
    assert FROZEN.run_id == "b66ddc128ce232e0"


def test_every_field_changes_the_id() -> None:
    for name, value in asdict(FROZEN).items():
        other = (
            "stability"
            if name == "purpose"
            else 8
            if value is None
            else f"{value}x"
            if isinstance(value, str)
            else value + 1
        )
        assert replace(FROZEN, **{name: other}).run_id != FROZEN.run_id, name


def test_a_newer_key_at_its_default_does_not_change_the_id() -> None:
    stated = replace(FROZEN, groups=None, ghost_size=None, blocks=None, stem=None, scale_invariant=False)
    assert stated.run_id == FROZEN.run_id
    assert len({replace(FROZEN, stem=stem).run_id for stem in (None, *range(4))}) == 5


def test_base_width_and_query_rows_change_the_id_only_if_used() -> None:
    assert replace(FROZEN, base_width=None, query_rows="").run_id == FROZEN.run_id
    assert len({replace(FROZEN, base_width=base).run_id for base in (None, 4, 8)}) == 3
    record = {name: value for name, value in asdict(FROZEN).items() if name not in LATER_KEYS}
    assert Run.from_record(record) == FROZEN


def test_every_option_of_the_model_reaches_the_runs_and_back(make_grid: MakeGrid) -> None:
    grid = make_grid(
        model={"family": "resnet", "activation": "tanh", "normalization": "ghost_batch", "ghost_size": 5,
               "blocks": [2, 1], "stem": 3, "scale_invariant": True},
    )  # fmt: skip
    options = ModelOptions("resnet", 1, "tanh", "ghost_batch", None, 5, (2, 1), 3, True)
    assert grid.model == options
    check_grid(grid)
    assert {ModelOptions.of_run(run) for run in grid.runs()} == {options}
    assert grid.runs()[0].blocks == "[2, 1]"


@pytest.mark.parametrize(
    ("model", "filled"),
    [
        ({"family": "mlp"}, {}),
        ({"family": "resnet"}, {"blocks": "[1, 1]"}),
        ({"family": "convnet", "normalization": "group"}, {"groups": 2}),
        ({"family": "mlp", "normalization": "ghost_batch"}, {"ghost_size": 64}),
    ],
)
def test_runs_hold_the_defaults_that_apply(make_grid: MakeGrid, model: dict[str, Any], filled: dict[str, Any]) -> None:
    run = make_grid(model=model).runs()[0]
    assert {name: getattr(run, name) for name in LATER_KEYS} == {**LATER_KEYS, **filled}


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
def test_a_derived_rate_reproduces_the_stated_value(
    make_grid: MakeGrid, tmp_path: Path, axis: str, sampling: str, parameterization: str
) -> None:
    stated = {"noise_scale": 3.0, "normalized_noise_scale": 3.0, "temperature": 0.01}[axis]
    changes: dict[str, Any] = {
        "grid__learning_rate": None, f"grid__{axis}": [stated], "grid__batch_size": [6, 30], "grid__width": [2, 4],
        "grid__momentum": [0.0, 0.5], "grid__init_scale": [1.0, 2.0], "seeds": 1, "training__steps": 2,
        "training__evaluations": 2, "training__sampling": sampling, "grid__parameterization": [parameterization],
    }  # fmt: skip
    study = sweep(make_grid(**changes).spec, tmp_path / "out", quiet=True)
    runs = study.runs()
    assert len(runs) == 16
    assert runs[axis].tolist() == pytest.approx([stated] * 16, rel=1e-12)
    assert runs.learning_rate.nunique() > 3


def test_a_normalized_axis_needs_a_layer_that_grows(make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisescale.sweeps.grid.read_out_ratio", lambda *arguments: math.nan)
    with pytest.raises(BadInput, match="normalized_noise_scale"):
        check_grid(make_grid(grid__learning_rate=None, grid__normalized_noise_scale=[1.0]))


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
def test_an_impossible_grid_is_refused_by_key(make_grid: MakeGrid, key: str, changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=key):
        check_grid(make_grid(**changes))


VECTORS = """
import numpy as np
def load():
    generator = np.random.default_rng(0)
    return tuple(part for _ in range(2) for part in (generator.normal(size=(70, 5)), np.arange(70) % 3))
"""


@pytest.mark.parametrize(
    ("message", "model", "changes"),
    [
        ("model.family: .*did you mean 'resnet'", {"family": "resnt"}, {}),
        ("model.blocks: must be left out for family 'convnet'", {"family": "convnet", "blocks": [1, 1]}, {}),
        ("model.groups: must be left out, unless model.normalization = 'group'", {"family": "mlp", "groups": 4}, {}),
        ("model.groups: a divisor .*Got: 4 for 6 channels",
         {"family": "convnet", "normalization": "group", "groups": 4}, {"grid__width": [4, 8, 6]}),
        ("model.groups: a divisor .*Got: 4 for 6 channels",
         {"family": "resnet", "normalization": "group", "groups": 4, "stem": 6}, {"grid__width": [4, 8]}),
        ("model.groups: .*no variance.*Got: 4 for 4 units", {"family": "mlp", "normalization": "group", "groups": 4},
         {"grid__width": [4, 8]}),
        ("grid.width: at least 2 with normalization 'layer'", {"family": "mlp", "normalization": "layer"},
         {"grid__width": [1, 2]}),
        ("model.normalization: .*scale_invariant = true", {"family": "mlp", "scale_invariant": True}, {}),
        ("model.family: at least 16 positions", {"family": "resnet", "blocks": [1, 1, 1, 1]}, {}),
        ("grid.batch_size: at least 2 with batch norm.*Got: 1", {"family": "mlp", "normalization": "batch"},
         {"grid__batch_size": [1, 2]}),
        ("stability.batch_size: at least 2 with batch norm.*Got: 1", {"family": "convnet", "normalization": "batch"},
         {"stability__batch_size": [1]}),
        ("grid.batch_size: at least 2 with batch norm.*Got: 1", {"family": "mlp", "normalization": "ghost_batch"},
         {"grid__batch_size": [1, 2]}),
        ("grid.batch_size: multiples of model.ghost_size = 8, .*Got: 12",
         {"family": "mlp", "normalization": "ghost_batch", "ghost_size": 8}, {"grid__batch_size": [4, 8, 12, 16]}),
        (r"model.family: .*or family 'mlp'.*'convnet' for inputs of shape \[5\]", {"family": "convnet"},
         {"dataset": {"name": "vectors_for_grid:load"}}),
        (r"model.family: .*or family 'mlp'.*'resnet' for inputs of shape \[5\]", {"family": "resnet"},
         {"dataset": {"name": "vectors_for_grid:load"}}),
    ],
)  # fmt: skip
def test_an_impossible_model_is_refused_by_key(
    make_grid: MakeGrid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    model: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    (tmp_path / "vectors_for_grid.py").write_text(VECTORS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=f"^{message}"):
        check_grid(make_grid(model=model, **changes))


NORMALIZED_WEIGHTS = """
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
def network(change, width, shape, classes):
    inputs = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), change(nn.Linear(inputs, width)), nn.ReLU(), nn.Linear(width, classes))
def weights(width, shape, classes): return network(weight_norm, width, shape, classes)
def spectral(width, shape, classes): return network(spectral_norm, width, shape, classes)
"""


def test_a_curvature_of_wrong_second_derivatives_is_refused_at_the_start(
    make_grid: MakeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "normalized_weights.py").write_text(NORMALIZED_WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    changes = {"grid__parameterization": ["own"], "measure__quantities": ["lambda_max", "rotation"]}
    message = r"^measure\.quantities: without lambda_max, or a module with .*correct second derivative.*original"
    with pytest.raises(BadInput, match=message):
        check_grid(make_grid(model={"family": "normalized_weights:weights"}, **changes))
    check_grid(make_grid(model={"family": "normalized_weights:spectral"}, **changes))
    changes["measure__quantities"] = ["gradient_noise_scale"]
    check_grid(make_grid(model={"family": "normalized_weights:weights"}, **changes))


def test_batches_below_the_ghost_size_are_noted_once(make_grid: MakeGrid) -> None:
    model = {"family": "mlp", "normalization": "ghost_batch", "ghost_size": 8}
    grid = make_grid(model=model, grid__batch_size=[2, 4, 8, 16], stability__batch_size=[3, 8])
    check_grid(grid)
    (note,) = grid.notes()
    assert note.startswith("batch sizes 2, 3, 4 are below model.ghost_size = 8")
    assert make_grid(model=model, grid__batch_size=[8]).notes() == []
    assert make_grid(grid__batch_size=[8]).notes() == []


def test_the_whole_training_set_may_be_one_batch(make_grid: MakeGrid) -> None:
    check_grid(make_grid(grid__batch_size=[60]))
    changes = {"grid__learning_rate": None, "grid__noise_scale": [1.0], "training__sampling": "with_replacement"}
    check_grid(make_grid(grid__batch_size=[60], **changes))


ODD = """
import math
from torch import nn
def factory(width, shape, classes):
    if width == 9:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.Linear(8, classes))
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.Linear(width, classes))
def normalized(width, shape, classes):
    first = nn.Linear(math.prod(shape), width)
    return nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(width), nn.Linear(width, classes))
"""


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        ("factory", {"grid__width": [8, 9]}, "at width 9"),
        ("normalized", {"grid__batch_size": [1, 4]}, "grid.batch_size: batches on which the model can be trained"),
    ],
)
def test_a_module_that_fails_at_some_width_or_batch_size_is_refused(
    family: str, changes: dict[str, Any], named: str, tmp_path: Path, make_grid: MakeGrid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / f"odd_{family}.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadInput, match=named):
        check_grid(make_grid(model={"family": f"odd_{family}:{family}"}, **changes))


@pytest.mark.parametrize(
    ("key", "value"), [("batch_statistics", "exact"), ("average", True), ("batch_statistics", "running")]
)
def test_statistics_of_a_compiled_normalization_are_not_replaced(
    key: str, value: object, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "scripted_norm.py").write_text(
        "import warnings\n\nimport torch\nfrom torch import nn\n\n\n"
        "def model(width, shape, classes):\n"
        "    with warnings.catch_warnings():\n"
        "        warnings.simplefilter('ignore')\n"
        "        norm = torch.jit.script(nn.BatchNorm1d(width))\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), norm, nn.ReLU(), nn.Linear(width, classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    changes = {"model__family": "scripted_norm:model", "grid__parameterization": ["own"], f"training__{key}": value}
    if value == "running":
        check_grid(make_grid(**changes))
        return
    with pytest.raises(BadInput, match=rf"training\.{key}: .*Got: other running averages in 2"):
        check_grid(make_grid(**changes))


@pytest.mark.parametrize(
    ("stated", "fields"),
    [(True, (True, None)), ("mean", (True, None)), ({"ema": 0.9}, (True, 0.9)), (False, (False, None))],
)
def test_the_average_of_the_spec_becomes_fields_of_the_runs(
    stated: Any, fields: tuple[bool, float | None], make_grid: MakeGrid
) -> None:
    grid = make_grid(training__average=stated, stability={"seeds": 1})
    assert {(run.average, run.average_decay) for run in grid.runs()} == {fields}
    ladder = stability_runs(grid, pd.DataFrame())
    assert {(run.average, run.average_decay) for run in ladder} == {(False, None)}
