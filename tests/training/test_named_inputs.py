"""Runs on inputs by name equal a plain loop, alone and in packs, in each kernel.

In float64 over 20 steps only rounding errors remain, so weights agree to 1e-9.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from named_inputs import KINDS, LENGTH, own_named  # noqa: F401  # a fixture
from plain_loop import batches
from torch import Tensor, nn

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.errors import BadInput
from noisescale.families import ModelOptions, family_factory
from noisescale.input_shapes import vocabulary_of
from noisescale.named_inputs import NamedInputs, in_precision
from noisescale.runs import Run

if TYPE_CHECKING:
    from conftest import MakeRun, MakeTrainer

STEPS = 20
OWN = {"parameterization": "own", "family": "own_named:model", "width": 6}


@pytest.fixture
def named(own_named: ModuleType) -> Dataset:  # noqa: F811
    return load_dataset(DatasetOptions("own_named:data"))


def plain(run: Run, data: Dataset) -> dict[str, Tensor]:
    """Train a run with torch's optimizer on plain dictionaries."""
    factory = family_factory(ModelOptions.of_run(run))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model = factory(run.width, data.input_shape, data.num_classes).double()
    assert isinstance(data.x_train, NamedInputs)
    inputs = {name: data.x_train[name] for name in data.x_train}
    inputs = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=run.learning_rate, momentum=run.momentum)
    for _, index in batches(run, STEPS, len(data.y_train)):
        optimizer.zero_grad()
        outputs = model({name: tensor[index] for name, tensor in inputs.items()})
        nn.functional.cross_entropy(outputs, data.y_train[index]).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def test_the_data_are_read_by_name(named: Dataset) -> None:
    assert isinstance(named.input_shape, dict) and list(named.input_shape) == ["tokens", "mask", "age", "length"]
    assert named.input_shape == {"tokens": (LENGTH,), "mask": (LENGTH,), "age": (), "length": ()}
    assert vocabulary_of(named.input_shape["tokens"]) == KINDS and vocabulary_of(named.input_shape["mask"]) is None
    assert isinstance(named.x_train, NamedInputs)
    assert float(named.x_train["age"].mean()) == pytest.approx(0, abs=1e-6)
    assert float(named.x_train["age"].std(correction=0)) == pytest.approx(1)
    assert {str(named.x_train[name].dtype) for name in ("tokens", "length")} == {"torch.int64"}
    assert len(named.x_train) == 48 and named.x_train[:5]["mask"].shape == (5, LENGTH)


@pytest.mark.parametrize("kernel", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("size", [1, 2, 16])
@pytest.mark.parametrize("changes", [{}, {"microbatch": 3}, {"momentum": 0.9}], ids=["plain", "parts", "momentum"])
def test_packed_equals_plain(
    kernel: str, size: int, changes: dict[str, Any], named: Dataset, make_run: MakeRun, make_trainer: MakeTrainer
) -> None:
    runs = [make_run(**OWN, seed=seed, learning_rate=0.1 * (1 + seed), **changes) for seed in range(size)]
    trainer = make_trainer(runs, named, kernel=kernel)
    trainer.advance()
    for position, run in enumerate(runs):
        expected = plain(run, named)
        for name, tensor in trainer.state.parameters.items():
            torch.testing.assert_close(tensor[position], expected[name], rtol=1e-9, atol=1e-9)


def test_dropout_is_the_same_alone_and_in_packs(named: Dataset, make_run: MakeRun, make_trainer: MakeTrainer) -> None:
    runs = [make_run(**{**OWN, "family": "own_named:random"}, seed=seed) for seed in range(16)]
    weights = []
    for together in (runs, runs[:2], runs[:1]):
        trainer = make_trainer(together, named)
        trainer.advance()
        weights.append({name: tensor[0] for name, tensor in trainer.state.parameters.items()})
    undropped = plain(make_run(**OWN), named)
    for name, tensor in weights[0].items():
        assert not torch.allclose(tensor, undropped[name])
        for other in weights[1:]:
            torch.testing.assert_close(other[name], tensor, rtol=1e-9, atol=1e-9)


def test_what_vmap_refuses_trains_one_run_at_a_time(
    named: Dataset, make_run: MakeRun, make_trainer: MakeTrainer
) -> None:
    runs = [make_run(**{**OWN, "family": "own_named:loop"}, seed=seed) for seed in range(2)]
    trainer = make_trainer(runs, named)
    trainer.advance()
    results = trainer.results()
    assert {result.kernel for result in results} == {"loop"}
    for position, run in enumerate(runs):
        expected = plain(run, named)
        for name, tensor in trainer.state.parameters.items():
            torch.testing.assert_close(tensor[position], expected[name], rtol=1e-9, atol=1e-9)


def test_evaluations_and_measurements(named: Dataset, make_run: MakeRun, make_trainer: MakeTrainer) -> None:
    keys = {"measure": "gradient_noise_scale ntk_lambda_max alignment", "measure_at": "1.0", "measure_examples": 1000}
    run = make_run(**OWN, **keys)
    trainer = make_trainer([run], named)
    trainer.advance()
    (result,) = trainer.results()
    weights = plain(run, named)
    model = family_factory(ModelOptions.of_run(run))(run.width, named.input_shape, named.num_classes).double()
    model.load_state_dict(weights)
    assert isinstance(named.x_test, NamedInputs) and isinstance(named.x_train, NamedInputs)

    def loss(x: NamedInputs, y: Tensor) -> Tensor:
        inputs = {name: x[name].double() if x[name].is_floating_point() else x[name] for name in x}
        return nn.functional.cross_entropy(model(inputs), y)

    assert result.curves["test_loss"][-1] == pytest.approx(float(loss(named.x_test, named.y_test).detach()), rel=1e-9)
    parameters = list(model.parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss(named.x_train[place : place + 1], label), parameters)])
        for place, label in enumerate(named.y_train.split(1))
    ]
    gradients = torch.stack(rows)
    trace = float((gradients - gradients.mean(0)).square().sum()) / (len(rows) - 1)
    scale = result.curves["gradient_noise_scale"][-1] * result.curves["gradient_norm_squared"][-1]
    assert scale == pytest.approx(trace, rel=1e-8)


def test_exact_statistics_are_those_of_all_examples(
    named: Dataset, make_run: MakeRun, make_trainer: MakeTrainer
) -> None:
    run = make_run(**{**OWN, "family": "own_named:normalized"}, batch_statistics="exact")
    trainer = make_trainer([run], named)
    trainer.advance()
    (result,) = trainer.results()
    model = family_factory(ModelOptions.of_run(run))(run.width, named.input_shape, named.num_classes).double()
    model.load_state_dict({name: tensor[0] for name, tensor in trainer.state.parameters.items()}, strict=False)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert len(layers) == 1 and isinstance(named.x_train, NamedInputs)
    layers[0].momentum = 1.0
    with torch.no_grad():
        model.train()(in_precision(named.x_train, torch.float64))
        # Torch's running variance is the unbiased one.
        assert layers[0].running_var is not None
        layers[0].running_var *= (len(named.x_train) - 1) / len(named.x_train)
        outputs = model.eval()(in_precision(named.x_test, torch.float64))
    expected = float(nn.functional.cross_entropy(outputs, named.y_test))
    assert result.curves["test_loss"][-1] == pytest.approx(expected, rel=1e-9)


def test_augmentation_and_families_are_refused(named: Dataset, make_run: MakeRun, make_trainer: MakeTrainer) -> None:
    with pytest.raises(BadInput, match=r"training\.augmentation: .*inputs by name: 'tokens', 'mask', 'age', 'length'"):
        make_trainer([make_run(**OWN, augmentation="flip")], named)
    with pytest.raises(BadInput, match=r"model\.family: a module that holds the scripted one"):
        make_trainer([make_run(**{**OWN, "family": "own_named:scripted"})], named)
    with pytest.raises(BadInput, match=r"model\.family: your factory.*inputs by name"):
        make_trainer([make_run()], named)
