"""A model that was defined in a notebook or in a console has an identity, though its code is in no file."""

from __future__ import annotations

import itertools
import linecache
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from noisescale.datasets import Dataset
from noisescale.errors import BadInput
from noisescale.families import ModelOptions, family_factory
from noisescale.sweeps import SweepSpec, sweep
from noisescale.sweeps.code_identity import CodeIdentity, identify

MakeSpec = Callable[..., SweepSpec]

CELLS = """
import torch
from torch import nn

SLOPE, calls = 0.1, 0

def activation(x):
    return nn.functional.leaky_relu(x, SLOPE)

class Net(nn.Module):
    offset = 0.0

    def __init__(self, width, factor=1.0):
        super().__init__()
        self.first, self.last = nn.Linear(6, width), nn.Linear(width, 3)
        self.drop, self.factor = nn.Dropout(0.1), factor

    def forward(self, x):
        global calls
        calls += 1
        if x.shape[0] > 1000:
            return self.large(x)
        return self.last(self.drop(activation(self.first(x))) * self.factor + self.offset)

    def large(self, x):
        return self.last(self.first(x))

def scaled(factor):
    def build(width, shape, classes):
        # A comment.
        return Net(width, factor)
    return build

model = scaled(1.0)

def data():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(80, 6, generator=draws)
    return x[:60], (x[:60, 0] > 0).long() + (x[:60, 1] > 0), x[60:], (x[60:, 0] > 0).long() + (x[60:, 1] > 0)
"""
# Changes that leave the model as it is.
UNCHANGED = {
    "a comment": ("# A comment.", "# Another comment."),
    "a number that a pass counts": ("calls = 0.1, 0", "calls = 0.1, 9"),
    "code that the model does not call": ("def data():", "def other():\n    pass\n\ndef data():"),
}
CHANGES = {
    "the rate of dropout": ("Dropout(0.1)", "Dropout(0.5)"),
    "a constant": ("SLOPE, calls = 0.1", "SLOPE, calls = 0.2"),
    "a function that the model calls": ("leaky_relu(x, SLOPE)", "leaky_relu(x, 1 * SLOPE)"),
    "a method that the first examples do not reach": ("self.last(self.first(x))", "self.last(self.first(x).tanh())"),
    "an attribute of the class": ("offset = 0.0", "offset = -0.0"),
    "the closure of the factory": ("model = scaled(1.0)", "model = scaled(1)"),
    "the default of an argument": ("factor=1.0", "factor=2.0"),
}
numbers = itertools.count()


Session = Callable[[str], None]


@pytest.fixture(params=[True, False], ids=["source", "compiled"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Return a function that runs cells in a new session, which keeps their source or does not."""

    def run(cells: str) -> None:
        session = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", session)
        name = f"<cell {next(numbers)}>"
        if request.param:  # as IPython does
            linecache.cache[name] = (len(cells), None, cells.splitlines(keepends=True), name)
        exec(compile(cells, name, "exec"), vars(session))

    return run


def identity() -> CodeIdentity:
    inputs, labels = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    data = Dataset("s", inputs, labels, inputs[:0], labels[:0], inputs, labels, (6,), 3, 0.4, "s")
    return identify(("__main__:model", "digits"), family_factory(ModelOptions("__main__:model")), 4, data)


@pytest.mark.parametrize("change", [*CHANGES, *UNCHANGED])
def test_a_change_of_the_model_is_noticed(change: str, start: Session) -> None:
    start(CELLS)
    first = identity()
    old, new = {**CHANGES, **UNCHANGED}[change]
    assert old in CELLS
    start(CELLS.replace(old, new))
    difference = first.difference(identity())
    assert difference is None if change in UNCHANGED else "(defined in this session)" in str(difference)


def test_seeds_of_two_models_are_not_pooled(start: Session, make_spec: MakeSpec, tmp_path: Path) -> None:
    def spec(seeds: int) -> SweepSpec:
        return make_spec(
            model={"family": "__main__:model"},
            dataset={"name": "__main__:data"},
            grid__parameterization=["own"],
            seeds=seeds,
        )

    start(CELLS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
        with pytest.raises(BadInput, match=r"or one worker \(jobs=1\).*defined in this session only"):
            sweep(spec(1), tmp_path / "out", jobs=2, quiet=True)
    assert not (tmp_path / "out").exists()
    sweep(spec(1), tmp_path / "out", jobs=1, quiet=True)
    start(CELLS.replace(*UNCHANGED["a comment"]))
    sweep(spec(2), tmp_path / "out", jobs=1, quiet=True)
    start(CELLS.replace(*CHANGES["the rate of dropout"]))
    with pytest.raises(BadInput, match=r"other code in Net \(defined in this session\)"):
        sweep(spec(3), tmp_path / "out", jobs=1, quiet=True)
