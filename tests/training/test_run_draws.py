"""Random operations in packs draw what a plain loop draws from the seed of the run and the step.

Where torch draws the numbers of a transposed tensor in the order of its memory, a run alone equals the run in a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from noisescale.parameterizations import stream_number
from noisescale.training import PackTrainer

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun

WIDTH, STEPS = 6, 25
Factory = Callable[[int, tuple[int, ...], int], nn.Module]


class Passing(nn.Module):
    """Two layers, with a random operation on the hidden units."""

    def __init__(self, width: int, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, width), nn.Linear(width, 4)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return self.last(self.change(hidden) if self.training else hidden)  # type: ignore[no-any-return]


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda hidden: functional.dropout(hidden, 0.3),
    "dropout in place": lambda hidden: functional.dropout(hidden.clone(), 0.3, inplace=True),
    "alpha dropout": lambda hidden: functional.alpha_dropout(hidden, 0.2, training=True),
    "dropout of channels": lambda hidden: functional.dropout1d(hidden.unsqueeze(2), 0.4).squeeze(2),
    "Gaussian noise": lambda hidden: hidden + 0.1 * torch.randn_like(hidden),
    "noise of a given shape": lambda hidden: hidden * (1 + 0.1 * torch.rand(hidden.shape[-1], dtype=hidden.dtype)),
    "Bernoulli masks": lambda hidden: hidden * torch.bernoulli(torch.sigmoid(hidden.detach())),
    "Gumbel softmax": lambda hidden: functional.gumbel_softmax(hidden, tau=0.7),
    "two operations": lambda hidden: functional.dropout(torch.randn_like(hidden) + hidden, 0.5),
}


def module(change: str) -> Factory:
    return lambda width, _shape, _classes: Passing(width, CHANGES[change])


def plain(make: Factory, seed: int, make_run: MakeRun, make_data: MakeData) -> nn.Module:
    """Train as a user would, with torch's generator at the seed of each step."""
    from plain_loop import batches

    run, data = make_run(seed=seed, steps=STEPS), make_data((12,))
    torch.manual_seed(seed)
    model = make(WIDTH, (12,), 4).double().train()
    optimizer = torch.optim.SGD(model.parameters(), run.learning_rate)
    for step, (_, index) in enumerate(batches(run, STEPS, len(data.x_train)), 1):
        torch.manual_seed(stream_number(seed, "forward pass", step))
        optimizer.zero_grad()
        functional.cross_entropy(model(data.x_train.double()[index]), data.y_train[index]).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("change", CHANGES)
def test_a_pack_draws_what_a_plain_loop_draws(change: str, make_run: MakeRun, make_data: MakeData) -> None:
    make = module(change)
    with torch.random.fork_rng(devices=[]):
        models = {seed: plain(make, seed, make_run, make_data) for seed in (1, 9)}
    first = make_run(parameterization="own", width=WIDTH, steps=STEPS)
    for seeds in ((9,), (1, 9), tuple(range(16))):
        runs = [replace(first, seed=seed) for seed in seeds]
        trainer = PackTrainer(runs, make_data((12,)), make, reference_width=2 * WIDTH, kernel="vmap")
        assert trainer.note == "" and trainer.kernel == "vmap"
        trainer.advance(11)
        resumed = PackTrainer(runs, make_data((12,)), make, reference_width=2 * WIDTH, kernel="vmap")
        resumed.state = trainer.state
        resumed.advance()
        for seed in models.keys() & set(seeds):
            for name, expected in models[seed].named_parameters():
                actual = resumed.state.parameters[name][seeds.index(seed)]
                torch.testing.assert_close(actual, expected.detach(), rtol=1e-9, atol=1e-9)


class Encoder(nn.Module):
    """Torch's encoder, whose attention transposes what its dropout changes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 2 * width)
        layer = nn.TransformerEncoderLayer(2 * width, 2, 4 * width, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(self.embed(x.unflatten(1, (4, 3)))).mean(1))  # type: ignore[no-any-return]


def test_torchs_encoder_with_dropout_is_packed_and_equals_its_runs_alone(
    make_run: MakeRun, make_data: MakeData
) -> None:
    def make(width: int, _shape: tuple[int, ...], _classes: int) -> nn.Module:
        return Encoder(width)

    first = make_run(parameterization="own", width=WIDTH, steps=8)
    trainers = []
    for seeds in ((9,), (1, 9), tuple(range(16))):
        runs = [replace(first, seed=seed) for seed in seeds]
        trainers.append(PackTrainer(runs, make_data((12,)), make, reference_width=2 * WIDTH))
        assert trainers[-1].note == "" and trainers[-1].kernel == "vmap"
        trainers[-1].advance()
    alone, pair, many = trainers
    for name, tensor in alone.state.parameters.items():
        for trainer, place in ((pair, 1), (many, 9)):
            torch.testing.assert_close(trainer.state.parameters[name][place], tensor[0], rtol=1e-9, atol=1e-9)


def test_a_generator_of_the_module_is_not_packed(make_run: MakeRun, make_data: MakeData) -> None:
    def make(width: int, _shape: tuple[int, ...], _classes: int) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        return Passing(width, lambda hidden: hidden * (1 + torch.rand(width, generator=generator, dtype=hidden.dtype)))

    runs = [make_run(parameterization="own", width=WIDTH, seed=seed) for seed in (0, 1)]
    trainer = PackTrainer(runs, make_data((12,)), make, reference_width=2 * WIDTH)
    assert trainer.kernel == "loop" and "cannot be packed" in trainer.note
