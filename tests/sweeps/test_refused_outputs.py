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


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Tuple", r"maps a batch of shape .* to \(2, 10\).*Got: a tuple"),
        ("Dict", "Got: a dict"),
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
