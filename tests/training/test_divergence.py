"""Runs that diverge, explode or collapse: when they are frozen, and what is recorded."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from noisescale.training import PackTrainer

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer


def test_divergence_is_frozen_and_recorded_with_its_step(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    base = make_run(loss="mse", precision="float32", steps=400, evaluations=4, learning_rate=0.02)
    runs = [base, replace(base, learning_rate=1e3), replace(base, learning_rate=1e3, seed=1)]
    trainer = make_trainer(runs, make_data())
    trainer.advance()
    calm, *wild = trainer.results()
    assert (calm.status, calm.diverged_at_step) == ("completed", None)
    for position, result in enumerate(wild, 1):
        assert result.status == "diverged" and not result.collapsed
        # Losses are checked every 25 steps, so divergence is detected at most 25 steps after the first infinite loss.
        assert result.diverged_at_step is not None and 1 <= result.diverged_at_step <= 50
        assert all(math.isnan(value) for value in result.late_means.values())
        assert all(math.isnan(value) for value in result.curves["train_loss"][1:])
        assert len(result.curves["step"]) == 5 and math.isfinite(result.curves["train_loss"][0])
        assert all(not tensor.any() for tensor in (weights[position] for weights in trainer.state.parameters.values()))


def test_a_diverged_pack_ends_early_and_its_evaluations_are_at_the_planned_steps(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer([make_run(loss="mse", learning_rate=1e30, steps=400, evaluations=4)], make_data())
    trainer.advance()
    assert trainer.done
    assert trainer.results()[0].status == "diverged"
    assert set(trainer.state.evaluated_steps) <= {0, 100, 200, 300, 400}


class Constant(nn.Module):
    """Outputs that do not depend on the inputs. `scale` determines the squared error."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale.expand(len(x), -1)


def test_an_infinite_parameter_counts_as_divergence_even_if_the_loss_is_finite(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer([make_run(seed=0), make_run(seed=1)], make_data())
    trainer.advance(2)
    trainer.state.parameters["1.bias"][1, 0] = -torch.inf  # The unit is dead, so its output is 0.
    trainer.advance()
    assert [result.diverged_at_step for result in trainer.results()] == [None, 10]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((1e5, 1e5), "diverged"), ((1e5, 1.0, 1e5, 1.0), "completed"), ((1e2, 1e2), "completed")],
)
def test_explosion_needs_two_evaluations_in_a_row(
    sizes: tuple[float, ...], expected: str, make_run: MakeRun, make_data: MakeData
) -> None:
    run = make_run(loss="mse", parameterization="own", steps=40, evaluations=4, learning_rate=1e-30)
    trainer = PackTrainer([run], make_data(), lambda width, shape, outputs: Constant(outputs), reference_width=2)
    for part, size in enumerate(sizes):
        trainer.advance(10 * part + 5)
        trainer.state.parameters["scale"].fill_(size)
    trainer.advance()
    result = trainer.results()[0]
    assert result.status == expected
    if expected == "diverged":
        assert result.diverged_at_step == 20


def test_a_network_of_dead_units_has_collapsed(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    runs = [make_run(steps=300, learning_rate=rate, width=64, loss="mse", batch_size=20) for rate in (0.02, 0.02)]
    trainer = make_trainer(runs, make_data())
    trainer.advance(1)
    trainer.state.parameters["1.bias"][1].fill_(-1e3)  # No unit is active for any input.
    trainer.advance()
    alive, dead = trainer.results()
    assert (alive.collapsed, dead.collapsed) == (False, True)
    assert dead.status == "completed"
    assert dead.late_means["train_loss"] == pytest.approx(dead.chance["loss"], rel=0.05)


def test_collapse_on_real_targets_is_detected_by_the_loss(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    base = make_run(steps=500, learning_rate=0.02, width=64, loss="mse", batch_size=20)
    trainer = make_trainer([base, replace(base, learning_rate=1e-9)], make_data(real=True))
    trainer.advance()
    learned, idle = trainer.results()
    assert (learned.collapsed, idle.collapsed) == (False, True)
    assert math.isnan(learned.chance["accuracy"]) and math.isnan(learned.late_means["test_accuracy"])
