"""Passes that only evaluate or measure change nothing of the training; AdamW counts steps of layers as torch does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from noisescale.families import converted
from noisescale.training import PackTrainer

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun


class Counts(nn.Module):
    """Counts its passes in both modes, and uses the count in training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(7, width), nn.Linear(width, 4)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.passes += 1
        hidden = self.first(x).tanh()
        if self.training:
            hidden = hidden * (1 + 0.1 * self.passes)
        out: Tensor = self.last(hidden)
        return out


class CountsWithNorm(Counts):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(super().forward(x))
        return out


def trained(kind: type[nn.Module], make_run: MakeRun, make_data: MakeData, **changes: object) -> PackTrainer:
    run = make_run(family="own:own", parameterization="own", width=8, steps=20, **changes)
    runs = [replace(run, seed=seed) for seed in (1, 2)]
    trainer = PackTrainer(runs, make_data(), lambda width, *_: kind(width), reference_width=16)
    trainer.advance()
    return trainer


@pytest.mark.parametrize("quantity", ["trace_covariance", "lambda_max", "hessian_trace"])
def test_measurements_change_nothing(quantity: str, make_run: MakeRun, make_data: MakeData) -> None:
    plain = trained(Counts, make_run, make_data)
    options = {"measure": quantity, "measure_at": "0.0 0.5 1.0", "measure_examples": 16}
    measured = trained(Counts, make_run, make_data, **options)
    assert plain.state.buffers["passes"].tolist() == measured.state.buffers["passes"].tolist() == [20, 20]
    for name, tensor in plain.state.parameters.items():
        torch.testing.assert_close(measured.state.parameters[name], tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [Counts, CountsWithNorm])
def test_exact_statistics_change_nothing_but_statistics(
    kind: type[nn.Module], make_run: MakeRun, make_data: MakeData
) -> None:
    running, exact = (trained(kind, make_run, make_data, batch_statistics=name) for name in ("running", "exact"))
    assert running.state.buffers["passes"].tolist() == exact.state.buffers["passes"].tolist() == [20, 20]
    if kind is Counts:
        assert running.results()[0].final == exact.results()[0].final


class Skips(nn.Module):
    """Leaves out a layer for some batches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(7, width), nn.Linear(width, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        out: Tensor = self.last(hidden + self.middle(hidden) if float(x.sum()) > 0 else hidden)
        return out


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_counts_the_steps_that_use_a_layer(decay: float, make_run: MakeRun, make_data: MakeData) -> None:
    from plain_loop import batches

    adam = {"optimizer": "adamw", "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "decay": "decoupled"}
    run = make_run(
        family="own:own", parameterization="own", width=8, steps=30, learning_rate=0.01, weight_decay=decay, **adam
    )
    runs, data = [replace(run, seed=seed) for seed in (1, 2)], make_data()
    trainer = PackTrainer(runs, data, lambda width, *_: Skips(width), reference_width=16)
    trainer.advance(until=11)
    state = trainer.state
    trainer = PackTrainer(runs, data, lambda width, *_: Skips(width), reference_width=16, kernel=trainer.choice)
    trainer.state = type(state).from_dict(state.as_dict())
    trainer.advance()
    for position, seed in enumerate((1, 2)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = converted(Skips(8), torch.float64)
        optimizer = torch.optim.AdamW(model.parameters(), 0.01, (0.9, 0.99), 1e-8, weight_decay=decay)
        used = 0
        for _, index in batches(runs[position], 30, len(data.x_train)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.x_train[index].double()), data.y_train[index]).backward()
            used += model.middle.weight.grad is not None
            optimizer.step()
        assert 5 < used < 25
        for name, parameter in model.named_parameters():
            found = trainer.state.parameters[name][position]
            torch.testing.assert_close(found, parameter.detach(), rtol=1e-9, atol=1e-9)
