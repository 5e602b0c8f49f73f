"""Runs that start from the weights of a file, with some layers drawn anew from the seed of each run."""

from __future__ import annotations

import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fixed_models
import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import PretrainedFactory, build, family_factory, file_digest
from noisescale.laws import recommend
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.train_pack import factory_of
from noisescale.training import PackTrainer

MakeSpec = Callable[..., SweepSpec]
WIDTH = 4


@pytest.fixture
def weights(make_spec: MakeSpec) -> dict[str, Tensor]:
    grid = Grid(make_spec(grid__width=[WIDTH]))
    data = grid.dataset(0.0)
    return build(grid.factory, WIDTH, data.input_shape, data.num_classes, 123).state_dict()


@pytest.fixture
def file(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, tmp_path / "pretrained.pt")
    return tmp_path / "pretrained.pt"


def tuned(make_spec: MakeSpec, path: Path, **changes: Any) -> SweepSpec:
    return make_spec(
        **{
            "model__checkpoint": str(path), "grid__width": [WIDTH], "grid__parameterization": ["own"],
            "grid__learning_rate": [0.1], "grid__batch_size": [10], "seeds": 2, "stability": {"seeds": 1, "steps": 2},
            **changes,
        }
    )  # fmt: skip


def start_of(grid: Grid) -> dict[str, Tensor]:
    runs = [run for run in grid.runs() if run.learning_rate == 0.1]
    return PackTrainer(runs, grid.dataset(0.0), grid.factory, reference_width=2 * WIDTH).state.parameters


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": {f"module.{n}": t for n, t in w.items()}}])
def test_every_run_starts_from_the_weights_of_the_file(
    wrap: Callable[[dict[str, Tensor]], Any], make_spec: MakeSpec, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(wrap(weights), tmp_path / "file.pt")
    start = start_of(Grid(tuned(make_spec, tmp_path / "file.pt")))
    assert start.keys() == weights.keys()
    for name, tensor in start.items():
        assert tensor.shape[0] == 2 and all(torch.equal(values, weights[name]) for values in tensor)


def test_reinitialized_weights_are_the_draw_of_the_module(
    make_spec: MakeSpec, file: Path, weights: dict[str, Tensor]
) -> None:
    grid = Grid(tuned(make_spec, file, model__reinitialize=["3.*"]))
    data, start = grid.dataset(0.0), start_of(grid)
    assert not torch.equal(start["3.weight"][0], start["3.weight"][1])
    for position, seed in enumerate((0, 1)):
        drawn = build(family_factory(grid.model), WIDTH, data.input_shape, data.num_classes, seed).state_dict()
        for name in weights:
            expected = drawn if name.startswith("3.") else weights
            assert torch.equal(start[name][position], expected[name])


def test_a_sweep_trains_from_the_file_and_its_runs_do_not_depend_on_the_path(
    make_spec: MakeSpec, file: Path, tmp_path: Path
) -> None:
    spec = tuned(make_spec, file)
    runs = sweep(spec, tmp_path / "study", jobs=2, quiet=True).runs()
    assert set(runs.status) == {"completed"} and set(runs.checkpoint) == {file_digest(file)}
    other = shutil.copy(file, tmp_path / "other.pt")
    moved = Grid(tuned(make_spec, Path(other))).runs()
    assert {run.run_id for run in moved} == set(runs[runs.purpose == "sweep"].run_id)
    plain = Grid(tuned(make_spec, file, model__checkpoint=None)).runs()
    assert not {run.run_id for run in plain} & set(runs.run_id)


def test_a_file_that_changes_after_the_planning_is_not_trained_from(
    make_spec: MakeSpec, file: Path, weights: dict[str, Tensor]
) -> None:
    grid = Grid(tuned(make_spec, file))
    run, data = grid.runs()[0], grid.dataset(0.0)
    torch.save({name: tensor + 1 for name, tensor in weights.items()}, file)
    with pytest.raises(BadInput, match="the file with which the sweep was planned"):
        factory_of(run, file)(WIDTH, data.input_shape, data.num_classes)


def refused(spec: SweepSpec, folder: Path) -> str:
    with pytest.raises(BadInput) as error:
        sweep(spec, folder, quiet=True)
    assert not folder.exists()
    return str(error.value)


def test_files_that_do_not_fit_are_refused_with_the_names(
    make_spec: MakeSpec, tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    path, folder = tmp_path / "file.pt", tmp_path / "study"
    torch.save({name.replace("3.", "head."): tensor for name, tensor in weights.items()}, path)
    assert "no 3.weight, 3.bias; the file has" in refused(tuned(make_spec, path), folder)
    assert "also head.weight, head.bias" in refused(tuned(make_spec, path, model__reinitialize=["3.*"]), folder)
    assert "'body.*'" in refused(tuned(make_spec, path, model__reinitialize=["3.*", "head.*", "body.*"]), folder)
    Grid(tuned(make_spec, path, model__reinitialize=["3.*", "head.*"])).noise_ratio("own", WIDTH, 2.0)
    torch.save({**weights, "3.bias": torch.zeros(11)}, path)
    message = refused(tuned(make_spec, path), folder)
    assert "the shapes of the model: 3.bias (10,)" in message and "3.bias (11,)" in message
    torch.save({**weights, "3.bias": torch.full((10,), math.nan)}, path)
    assert refused(tuned(make_spec, path), folder) == (
        "model.checkpoint: finite weights. Got: NaN or infinity in 3.bias."
    )
    for content in (b"no weights", b"", pickle.dumps(Path("a"))):
        path.write_bytes(content)
        message = refused(tuned(make_spec, path), folder)
        assert message.startswith("model.checkpoint: a file of weights, as torch.save(model.state_dict(), path)")
        assert str(path) in message and "weights_only" not in message and "\\x1b" not in message
    torch.save(nn.Linear(2, 2), path)
    assert refused(tuned(make_spec, path), folder).endswith("such as a whole pickled module or a text.")
    assert "model.checkpoint" in refused(tuned(make_spec, tmp_path / "none.pt"), folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid__parameterization": ["own", "ntk"]}, r"grid.parameterization = \['own'\]"),
        ({"grid__width": [4, 8]}, "one width where model.checkpoint"),
        ({"model__checkpoint": None, "model__reinitialize": ["3.*"]}, "model.checkpoint where model.reinitialize"),
        ({"model__reinitialize": ["a b"]}, "patterns of parameter names without spaces"),
    ],
)
def test_specs_that_cannot_be_fine_tuned_are_refused(
    changes: dict[str, Any], message: str, make_spec: MakeSpec, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        tuned(make_spec, tmp_path / "file.pt", **changes)


class Backbone(nn.Module):
    """A frozen backbone with batch normalization, and a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 6), nn.BatchNorm1d(6)).requires_grad_(False)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.backbone(x.flatten(1))))
        return out


def test_a_frozen_backbone_from_the_file_gets_a_new_head(make_spec: MakeSpec, tmp_path: Path) -> None:
    grid = Grid(tuned(make_spec, tmp_path / "file.pt", model__checkpoint=None))
    data, runs = grid.dataset(0.0), grid.runs()
    pretrained = Backbone(3)
    pretrained(torch.randn(50, 64, generator=torch.Generator().manual_seed(0)))  # moves the running statistics
    torch.save(pretrained.state_dict(), tmp_path / "file.pt")
    path = tmp_path / "file.pt"
    factory = PretrainedFactory(
        lambda width, shape, classes: Backbone(classes), WIDTH, path, file_digest(path), ("head.*",)
    )
    trainer = PackTrainer(runs, data, factory, reference_width=2 * WIDTH)
    trainer.advance()
    assert set(trainer.state.parameters) == {"head.weight", "head.bias"}
    for name, values in pretrained.state_dict().items():
        if name.startswith("backbone.0") or name in ("backbone.1.weight", "backbone.1.bias"):
            assert all(torch.equal(held, values) for held in trainer.state.buffers[name])


def test_a_fixed_model_is_fine_tuned_with_a_smaller_rate_for_some_layers(make_spec: MakeSpec, tmp_path: Path) -> None:
    pretrained = fixed_models.Backbone()
    torch.save({"model": pretrained.state_dict()}, tmp_path / "file.pt")
    spec = tuned(
        make_spec, tmp_path / "file.pt", grid__width=None, grid__learning_rate=[0.05, 0.2, 0.8], seeds=3,
        model={
            "family": "fixed_models:Backbone", "checkpoint": str(tmp_path / "file.pt"), "reinitialize": ["head.*"],
            "rate_multipliers": {"head.0.*": 0.1},
        },
        training={"steps": 30, "evaluations": 4, "microbatch": 4}, stability={"seeds": 0},
    )  # fmt: skip
    study = sweep(spec, tmp_path / "study", jobs=2, quiet=True)
    runs = study.finished()
    assert set(runs.status) == {"completed"} and set(runs.microbatch) == {4} and runs.fixed.all()
    layers = study.layers()
    assert set(layers.layer) == {"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"}
    assert set(layers[layers.layer.str.startswith("head.0")].multiplier) == {0.1}
    recommendation = recommend(study)
    model, optimizer = recommendation.optimizer(fixed_models.Backbone)
    rates = {id(tensor): group["lr"] for group in optimizer.param_groups for tensor in group["params"]}
    rate = recommendation.learning_rate.value
    expected = {"head.0.weight": 0.1, "head.0.bias": 0.1, "head.2.weight": 1.0, "head.2.bias": 1.0}
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert trained.keys() == expected.keys() and len(rates) == 4
    for name, tensor in trained.items():
        assert rates[id(tensor)] == pytest.approx(expected[name] * rate, rel=1e-12)
    text = " ".join(recommendation.validity)
    assert file_digest(tmp_path / "file.pt") in text and "the rate of head.0.* times 0.1" in text
