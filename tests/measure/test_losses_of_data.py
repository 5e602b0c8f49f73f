"""`noisescale measure` with every loss: tokens, several labels, a user's loss, outputs in dictionaries.

The reference is autograd on one call of the loss on all data, in float32: values agree to 1e-4.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisescale import measure
from noisescale.cli import main
from noisescale.datasets import DatasetOptions, load_dataset
from noisescale.errors import BadInput

MODULE = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.last = nn.Embedding(7, 5), nn.Linear(5, 7)
    def forward(self, tokens):
        assert tokens.dtype == torch.int64
        hidden = self.embed(tokens)
        return self.last(torch.tanh(hidden + hidden.mean(1, keepdim=True)))

class Wrapped(Tokens):
    def forward(self, tokens):
        return {"features": tokens, "logits": super().forward(tokens)}

class Paired(Tokens):
    def forward(self, tokens):
        return super().forward(tokens), None

class Masked(Tokens):
    def forward(self, batch):
        assert type(batch) is dict and batch["mask"].dtype == torch.bool
        hidden = self.embed(batch["tokens"]) * batch["mask"].unsqueeze(-1)
        return self.last(torch.tanh(hidden.sum(1) + batch["age"].unsqueeze(-1)))

def by_name():
    generator = np.random.default_rng(0)
    tokens = generator.integers(7, size=(60, 6))
    x = {"tokens": tokens, "mask": tokens > 1, "age": generator.normal(40, 10, size=60)}
    return x, tokens[:, 0], x, tokens[:, 0]

torch.manual_seed(0)
masked = Masked()
tokens = Tokens()
wrapped, paired = Wrapped(), Paired()
for model in (wrapped, paired):
    model.load_state_dict(tokens.state_dict())
vectors = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
classes = nn.Sequential(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(30, 7))

def next_tokens():
    x = np.random.default_rng(0).integers(7, size=(60, 6)).astype(np.int32)
    y = np.roll(x, -1, 1)
    y[:20, 3:] = -1
    return x, y, x, y

def whole_sequences():
    x = np.random.default_rng(0).integers(7, size=(60, 6))
    return x, x[:, 0], x, x[:, 0]

def labels():
    x = np.random.default_rng(0).normal(size=(50, 4))
    return x, (x[:, :3] > 0).astype(int), x, (x[:, :3] > 0).astype(int)

def numbers():
    x = np.random.default_rng(0).normal(size=(50, 4))
    return x, x[:, :3] ** 2, x, x[:, :3] ** 2

def huber(outputs, targets):
    return F.huber_loss(outputs, targets, reduction="none").sum(-1)

def per_token(outputs, labels):
    return F.cross_entropy(outputs.mT, labels, ignore_index=-1, reduction="none")

def scalar(outputs, targets):
    return (outputs - targets).square().mean()
"""


@pytest.fixture(autouse=True)
def place(place_module: Callable[[str, str], None]) -> None:
    place_module("users_losses", MODULE)


def flat(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=-1)


def over_all_tokens(outputs: Tensor, labels: Tensor) -> Tensor:
    losses = F.cross_entropy(outputs.mT, labels, ignore_index=-1, reduction="none")
    return losses.sum() / labels.numel()


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum() / (2 * len(outputs))


CASES: dict[str, tuple[str, str, list[str], Callable[[Tensor, Tensor], Tensor]]] = {
    "labels of tokens": ("tokens", "next_tokens", ["--ignore-index", "-1"], flat),
    "a dictionary": ("wrapped", "next_tokens", ["--ignore-index", "-1", "--outputs", "logits"], flat),
    "a tuple": ("paired", "next_tokens", ["--ignore-index", "-1", "--outputs", "0"], flat),
    "a loss of tokens": ("tokens", "next_tokens", ["--loss", "users_losses:per_token"], over_all_tokens),
    "inputs by name": ("masked", "by_name", [], F.cross_entropy),
    "a label of a sequence": ("classes", "whole_sequences", [], F.cross_entropy),
    "several labels": ("vectors", "labels", ["--loss", "binary_cross_entropy"], F.binary_cross_entropy_with_logits),
    "several numbers": ("vectors", "numbers", ["--loss", "mse"], half_squares),
    "a user's loss": ("vectors", "numbers", ["--loss", "users_losses:huber"],
                      lambda outputs, targets: F.huber_loss(outputs, targets, reduction="sum") / len(outputs)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_a_sweep_is_measured(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, data, options, loss = CASES[name]
    only = [part for quantity in ("gradient_norm_squared", "lambda_max") for part in ("--only", quantity)]
    arguments = [f"users_losses:{model}", "--data", f"users_losses:{data}", "--json", *only]
    assert main(["measure", *arguments, *options]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)["quantities"]
    loaded = load_dataset(DatasetOptions(f"users_losses:{data}", multi_label=data == "labels"))
    module: nn.Module = getattr(
        sys.modules["users_losses"], {"wrapped": "tokens", "paired": "tokens"}.get(model, model)
    )
    inputs = (
        loaded.x_train
        if isinstance(loaded.x_train, Tensor)
        else {name: loaded.x_train[name] for name in loaded.x_train}
    )
    gradients = torch.autograd.grad(loss(module(inputs), loaded.y_train), list(module.parameters()))
    square = sum(float(gradient.square().sum()) for gradient in gradients)
    assert values["gradient_norm_squared"]["value"] == pytest.approx(square, rel=1e-4)
    assert values["lambda_max"]["status"] == "ok"


@pytest.mark.parametrize(
    ("model", "data", "options", "words"),
    [
        ("tokens", "next_tokens", [], "--ignore-index: -1"),
        ("tokens", "next_tokens", ["--ignore-index", "3"], "--ignore-index: -1"),
        ("vectors", "numbers", ["--loss", "mse", "--ignore-index", "0"], "--ignore-index"),
        ("vectors", "numbers", [], "'mse' or 'binary_cross_entropy'"),
        ("vectors", "numbers", ["--loss", "users_losses:scalar"], "users_losses:scalar to return values [50]"),
        ("vectors", "numbers", ["--loss", "users_losses:nothing"], "a name 'nothing'"),
        ("vectors", "numbers", ["--loss", "binary_cross_entropy"], "must be 0 or 1"),
        ("tokens", "whole_sequences", [], "outputs [60, 'K'] for labels [60]"),
        ("wrapped", "next_tokens", ["--ignore-index", "-1"], "outputs that are one tensor"),
        ("wrapped", "next_tokens", ["--ignore-index", "-1", "--outputs", "scores"], "--outputs: an entry of"),
        ("tokens", "next_tokens", ["--ignore-index", "-1", "--outputs", "logits"], "--outputs: left out"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(
    model: str, data: str, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"users_losses:{model}", "--data", f"users_losses:{data}"]
    assert main(["measure", *arguments, *options]) == 2
    assert words in capsys.readouterr().err


def test_an_instrument_takes_an_entry_of_the_outputs() -> None:
    sys.path.insert(0, str(Path.cwd()))
    loaded = load_dataset(DatasetOptions("users_losses:next_tokens"))
    own, data = sys.modules["users_losses"], (loaded.x_train, loaded.y_train)
    expected = measure.gradient_noise(own.tokens, flat, data)
    selected = measure.gradient_noise(own.wrapped, flat, data, outputs="logits")
    assert selected == expected
    with pytest.raises(BadInput, match="outputs that are one tensor"):
        measure.gradient_noise(own.wrapped, flat, data)


@pytest.mark.parametrize("batched", [False, True])
def test_instruments_take_dictionaries(batched: bool) -> None:
    """Every example alone, by autograd in float64, gives the noise to 1e-9."""
    sys.path.insert(0, str(Path.cwd()))
    loaded = load_dataset(DatasetOptions("users_losses:by_name"))
    model, labels = sys.modules["users_losses"].masked.double(), loaded.y_train
    x = {name: loaded.x_train[name] for name in loaded.x_train}
    x["age"] = x["age"].double()

    def part(rows: slice) -> dict[str, Tensor]:
        return {name: tensor[rows] for name, tensor in x.items()}

    rows = []
    for place in range(len(labels)):
        single = slice(place, place + 1)
        gradients = torch.autograd.grad(F.cross_entropy(model(part(single)), labels[single]), list(model.parameters()))
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    stacked = torch.stack(rows)
    spread = float((stacked - stacked.mean(0)).square().sum()) / (len(labels) - 1)
    batches = [(part(slice(start, start + 25)), labels[start : start + 25]) for start in range(0, len(labels), 25)]
    noise = measure.gradient_noise(model, F.cross_entropy, batches if batched else (x, labels))
    assert noise.trace_covariance.value == pytest.approx(spread, rel=1e-9)

    def loss_of(index: Tensor, rows: slice) -> Tensor:
        return F.cross_entropy(model({name: tensor[index][rows] for name, tensor in x.items()}), labels[index][rows])

    monitor, plain = measure.NoiseMonitor(model, F.cross_entropy, every=1), measure.NoiseMonitor(model, every=1)
    for _ in range(8):
        index = torch.randperm(len(labels))[:32]
        assert monitor.update({name: tensor[index] for name, tensor in x.items()}, labels[index])
        assert plain.update_by(32, partial(loss_of, index))
    assert monitor.estimate() == plain.estimate() and monitor.estimate() is not None


@pytest.mark.parametrize("inputs", [{}, {"a": 3}, {"a": torch.ones(3), "b": torch.ones(2)}], ids=["none", "3", "2"])
def test_dictionaries_of_something_else_are_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"data: \(inputs, targets\)"):
        measure.gradient_noise(nn.Linear(1, 2), F.cross_entropy, (inputs, torch.tensor([0, 1, 0])))
