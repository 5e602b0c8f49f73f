"""Data and a model whose inputs are several arrays by name: tokens with a mask, and a column of numbers."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any, Dict  # noqa: UP035

import numpy as np
import pytest
import torch
from torch import Tensor, nn

LENGTH, KINDS, TRAIN, TEST = 5, 9, 48, 20


class Mixed(nn.Module):
    """Averages the embeddings of the tokens that count, and adds the number."""

    def __init__(self, width: int, vocabulary: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed, self.age = nn.Embedding(vocabulary, width), nn.Linear(1, width)
        self.drop, self.out = nn.Dropout(dropout), nn.Linear(width, classes)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        assert type(batch) is dict and batch["mask"].dtype == torch.bool and batch["tokens"].dtype == torch.int64
        mask = batch["mask"].unsqueeze(-1)
        pooled = (self.embed(batch["tokens"]) * mask).sum(1) / batch["length"].unsqueeze(-1)
        return self.out(self.drop(torch.tanh(pooled + self.age(batch["age"].unsqueeze(-1)))))  # type: ignore[no-any-return]


class Lengths(Mixed):
    """The same, with an operation that cannot be vectorized over runs."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        assert batch["length"].max().item() <= LENGTH
        return super().forward(batch)


class Normalized(Mixed):
    """The same, with batch normalization."""

    def __init__(self, width: int, vocabulary: int, classes: int) -> None:
        super().__init__(width, vocabulary, classes)
        self.out = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, classes))  # type: ignore[assignment]


class Scripted(nn.Module):
    """A module that TorchScript compiles."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.age, self.out = nn.Linear(1, width), nn.Linear(width, classes)

    def forward(self, batch: Dict[str, Tensor]) -> Tensor:  # noqa: UP006  # TorchScript knows no other name
        return self.out(torch.tanh(self.age(batch["age"].unsqueeze(-1))))  # type: ignore[no-any-return]


def scripted(width: int, _shape: dict[str, tuple[int, ...]], classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of `torch.jit.script`
        return torch.jit.script(Scripted(width, classes))  # type: ignore[no-any-return]


def data() -> tuple[Any, ...]:
    generator = np.random.default_rng(0)
    parts = []
    for examples in (TRAIN, TEST):
        tokens, lengths = generator.integers(KINDS, size=(examples, LENGTH)), generator.integers(1, 6, size=examples)
        tokens[0, 0] = KINDS - 1
        mask = np.arange(LENGTH) < lengths[:, None]
        age = generator.normal(40, 10, size=examples)
        labels = ((tokens * mask).sum(1) / lengths > 4).astype(int) + (age > 45)
        labels[:3] = [0, 1, 2]
        parts += [{"tokens": tokens, "mask": mask, "age": age, "length": lengths}, labels]
    return tuple(parts)


@pytest.fixture
def own_named(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make the data and the models importable as `own_named`."""
    module = ModuleType("own_named")
    module.__dict__.update(
        data=data,
        model=lambda width, shape, classes: Mixed(width, shape["tokens"].vocabulary, classes),
        normalized=lambda width, shape, classes: Normalized(width, shape["tokens"].vocabulary, classes),
        scripted=scripted,
        random=lambda width, shape, classes: Mixed(width, shape["tokens"].vocabulary, classes, dropout=0.3),
        loop=lambda width, shape, classes: Lengths(width, shape["tokens"].vocabulary, classes),
    )
    monkeypatch.setitem(sys.modules, "own_named", module)
    return module
