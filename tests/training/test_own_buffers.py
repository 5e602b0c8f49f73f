"""Buffers of a user's module: random buffers that depend on the seed, and buffers that only later passes change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from noisescale.training import PackTrainer
from noisescale.training.sampling import index_block

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun


class RandomFeatures(nn.Module):
    """A first layer of fixed random weights, which the factory draws."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.randn(7, width))
        self.read_out = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.read_out(torch.relu(x @ self.features))


class Still(nn.Module):
    """Normalizes initially zero activations, so the first pass leaves the running mean at zero. It cannot be packed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm, self.read_out = nn.Linear(7, width), nn.BatchNorm1d(width), nn.Linear(width, 4)
        nn.init.zeros_(self.first.weight)
        nn.init.zeros_(self.first.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.first(x))
        if hidden.sum().item() == float("inf"):
            raise AssertionError
        return self.read_out(hidden + 0.1 * x.sum(1, keepdim=True))


def trained_alone(model: nn.Module, run: object, data: object) -> nn.Module:
    """Train with a plain loop over the run's order of examples."""
    optimizer = torch.optim.SGD(model.parameters(), lr=run.learning_rate)  # type: ignore[attr-defined]
    for step in range(run.steps):  # type: ignore[attr-defined]
        block, place = divmod(step, 60 // 8)
        index = index_block("epoch_shuffle", [run.seed], block, 60, 8)[0, 8 * place : 8 * place + 8]  # type: ignore[attr-defined]
        optimizer.zero_grad()
        outputs = model.train()(data.x_train[index].double())  # type: ignore[attr-defined]
        nn.functional.cross_entropy(outputs, data.y_train[index]).backward()  # type: ignore[attr-defined]
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(("module", "kernel"), [(RandomFeatures, "auto"), (RandomFeatures, "loop"), (Still, "auto")])
def test_every_run_has_separate_buffers(
    module: type[nn.Module], kernel: str, make_run: MakeRun, make_data: MakeData
) -> None:
    data = make_data()
    runs = [make_run(parameterization="own", seed=seed, steps=20, learning_rate=0.3) for seed in (4, 1)]

    def factory(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return module(width)

    trainer = PackTrainer(runs, data, factory, reference_width=32, kernel=kernel)
    trainer.advance()
    for run, result in zip(runs, trainer.results(), strict=True):
        torch.manual_seed(run.seed)
        plain = trained_alone(module(run.width).double(), run, data)
        with torch.no_grad():
            loss = nn.functional.cross_entropy(plain(data.x_test.double()), data.y_test)
        assert result.final["test_loss"] == pytest.approx(float(loss), rel=1e-9)
    assert trainer.results()[0].final != trainer.results()[1].final


class Average(nn.Module):
    """Begins with a copy of its first weight in a buffer, which goes on as a moving average."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.read_out = nn.Linear(7, width), nn.Linear(width, 4)
        self.register_buffer("average", self.first.weight.detach().clone())
        self.register_buffer("constant", torch.zeros(width))
        nn.init.zeros_(self.first.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.mul_(0.5).add_(0.5 * self.first.weight.detach())
        return self.read_out(torch.relu(self.first(x)) + x @ self.average.T + self.constant)


@pytest.mark.parametrize("parameterization", ["ntk", "mup", "own"])
def test_a_buffer_that_copies_a_weight_copies_the_weight_of_the_parameterization(
    parameterization: str, make_run: MakeRun, make_data: MakeData
) -> None:
    runs = [make_run(seed=seed, family="own:own", parameterization=parameterization, width=8) for seed in (1, 2)]
    trainer = PackTrainer(runs, make_data(), lambda width, *_: Average(width), reference_width=16)
    state = trainer.state
    assert torch.equal(state.buffers["average"], state.parameters["first.weight"])
    assert not torch.equal(state.buffers["average"][0], state.buffers["average"][1])
    assert not state.buffers["constant"].any()
    trainer.advance(until=2)
    assert not torch.equal(state.buffers["average"], state.parameters["first.weight"])
