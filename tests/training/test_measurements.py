"""Measurements during training do not change the training, and a resumed pack measures the same values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from noisescale import measure
from noisescale.measure.packs import INSTRUMENTS
from noisescale.runs import RunResult
from noisescale.training.state import PackState

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

ALL = {"measure": " ".join(INSTRUMENTS), "measure_at": "0.0 0.5 1.0", "measure_examples": 40}
OPTIONS = {"evaluations": 4, "steps": 40, "momentum": 0.5, "weight_decay": 0.01, "schedule": "constant"}


def equal(results: list[RunResult], expected: list[RunResult], names: set[str] | None = None) -> None:
    for a, b in zip(results, expected, strict=True):
        for name in names or a.curves.keys():
            np.testing.assert_array_equal(a.curves[name], b.curves[name], err_msg=name)


def test_training_is_the_same_with_and_without_measurements(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    plain, measured = (
        make_trainer([make_run(seed=seed, **OPTIONS, **keys) for seed in range(3)], make_data()) for keys in ({}, ALL)
    )
    plain.advance()
    measured.advance()
    equal(plain.results(), measured.results(), set(plain.results()[0].curves))
    for name, tensor in plain.state.parameters.items():
        assert torch.equal(tensor, measured.state.parameters[name])


@pytest.mark.parametrize("stops", [(7, 19, 20, 33), (20, 39)])
def test_a_resumed_pack_measures_the_same(
    stops: tuple[int, ...], make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    runs = [make_run(seed=seed, **OPTIONS, **ALL) for seed in range(2)]
    uninterrupted = make_trainer(runs, make_data())
    uninterrupted.advance()
    part = make_trainer(runs, make_data())
    for stop in stops:
        part.advance(stop)
        state = PackState.from_dict(part.state.as_dict())
        part = make_trainer(runs, make_data())
        part.state = state
    part.advance()
    equal(uninterrupted.results(), part.results())


def test_stored_measurements_equal_those_of_the_instruments(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    """Compare the last measurement with instruments on single models, in the optimizer's coordinates."""
    runs = [
        make_run(seed=seed, parameterization="ntk", **OPTIONS, **{**ALL, "measure_examples": 1000}) for seed in range(2)
    ]
    data = make_data()
    trainer = make_trainer(runs, data)
    trainer.advance()
    for number, result in enumerate(trainer.results()):
        curves = result.curves
        given = {row.name: row.multiplier for row in trainer.tables[number]}
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(7, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
        ).double()
        model.load_state_dict({name: tensor[number] for name, tensor in trainer.state.parameters.items()})
        arguments = model, torch.nn.CrossEntropyLoss(), (data.x_train.double(), data.y_train)
        top = measure.hessian_eigenvalues(*arguments, learning_rate_multipliers=given)
        assert curves["lambda_max"][-1] == pytest.approx(top.values[0], rel=1e-8)
        noise = measure.gradient_noise(*arguments, learning_rate_multipliers=given)
        assert curves["gradient_noise_scale"][-1] == pytest.approx(noise.gradient_noise_scale.value, rel=1e-8)
        assert curves["gradient_noise_scale_low"][-1] == curves["gradient_noise_scale"][-1]
        assert np.isnan(curves["lambda_max"]).tolist() == [False, True, False, True, False]
        assert np.isnan(curves["rotation.1.weight"]).tolist() == [True, True, False, True, False]


def test_a_diverged_run_is_not_measured_and_does_not_disturb_other_runs(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    options = {"loss": "mse", **{**OPTIONS, **ALL}}
    alone = make_trainer([make_run(**options)], make_data(real=True))
    beside = make_trainer([make_run(**options), make_run(**options, learning_rate=1e9)], make_data(real=True))
    for trainer in (alone, beside):
        trainer.advance()
    well, wild = beside.results()
    assert wild.status == "diverged" and np.isnan(wild.curves["lambda_max"][-1])
    for name, curve in alone.results()[0].curves.items():
        np.testing.assert_allclose(curve, well.curves[name], rtol=1e-7, err_msg=name)


def test_rotation_is_the_rotation_of_the_last_step(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    run = make_run(**{**OPTIONS, **ALL})
    trainer = make_trainer([run], make_data())
    trainer.advance(39)
    before = {name: tensor[0].clone() for name, tensor in trainer.state.parameters.items()}
    trainer.advance()
    after = {name: tensor[0] for name, tensor in trainer.state.parameters.items()}
    step = measure.weight_dynamics(before, after, after, 0.1)
    curves = trainer.results()[0].curves
    for name in ("1.weight", "3.weight"):
        assert curves[f"rotation.{name}"][-1] == pytest.approx(step.layers[name].rotation, rel=1e-9)
