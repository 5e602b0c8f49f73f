"""A module whose outputs or precision a sweep cannot train is refused in one sentence, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import Grid, SweepSpec
from noisescale.sweeps.grid_checks import check_grid

MODULE = """
import torch
from dataclasses import dataclass
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Linear(64, width), nn.Linear(width, 10)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).tanh())

class Tuple(Net):
    def forward(self, x):
        return super().forward(x), x

class Dict(Net):
    def forward(self, x):
        return {"logits": super().forward(x)}

class Head64(Net):
    def __init__(self, width):
        super().__init__(width)
        self.last.double()

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).tanh().double()).float()

class Table64(Net):
    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("table", torch.eye(width).double())

    def forward(self, x):
        return self.last((self.first(x.flatten(1)).double() @ self.table).float())

def factory(width, input_shape, num_classes):
    return KIND(width)
"""


LAST_TOKEN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width, vocabulary):
        super().__init__()
        self.tokens, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)

    def forward(self, idx, targets=None):
        return self.head(self.tokens(idx if targets is not None else idx[:, [-1]]))

def factory(width, shape, vocabulary):
    return Net(width, vocabulary)
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Tuple", r"maps a batch of shape .* to \(2, 10\).*Got: a tuple"),
        ("Dict", "Got: a dict"),
        ("Dict", "model.outputs selects an entry"),
        ("Head64", "layers all compute in training.precision, 'float32'.*dtype"),
        ("Table64", "layers all compute in training.precision, 'float32'.*dtype"),
    ],
)
def test_it_is_refused(
    kind: str, message: str, make_spec: Callable[..., SweepSpec], user_module: Callable[[str], str]
) -> None:
    name = user_module(MODULE.replace("KIND", kind))
    spec = make_spec(model={"family": f"{name}:factory"}, dataset__name="digits")
    with pytest.raises(BadInput, match=message):
        check_grid(Grid(spec))


def test_a_model_that_returns_the_last_token_only_gets_advice(
    make_spec: Callable[..., SweepSpec], user_module: Callable[[str], str]
) -> None:
    name = user_module(LAST_TOKEN)
    spec = make_spec(model={"family": f"{name}:factory"}, dataset={"name": "language", "vocabulary": 8})
    with pytest.raises(BadInput, match=r"give it any: `EveryToken`.*Got: \(2, 1, 8\)"):
        check_grid(Grid(spec))
