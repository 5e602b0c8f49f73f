"""Sweeps with code of a user give the same results to the bit in one and in two workers, or are refused.

Results are compared exactly: the same processor computes the same operations on the same numbers. Packed runs need the
same kernel for that, so the second sweep takes the choices that the first one measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.store import Study, comparable_runs
from noisescale.sweeps import Grid, SweepSpec, dry_run, failures, sweep
from noisescale.sweeps.grid_checks import check_grid
from noisescale.sweeps.session import check_data

MakeSpec = Callable[..., SweepSpec]
UserModule = Callable[[str], str]

HEAD = """
import itertools, multiprocessing, os, random, time, uuid
import numpy as np
import torch
from torch import nn
from torch.nn import functional

CALLS = itertools.count()

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Linear(6, width), nn.Linear(width, 3)
        self.begin()
    def begin(self):
        pass
    def change(self, hidden):
        return hidden
    def forward(self, x):
        return self.last(self.change(self.first(x).tanh()))

def noisy(hidden):
    hidden.register_hook(lambda gradient: gradient * random.random())
    return hidden

class Noisy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 + random.random())

def draw(generator, examples=60):
    inputs = generator.normal(size=(examples + 20, 6)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(int) + (inputs[:, 1] > 0)
    return inputs[:examples], labels[:examples], inputs[examples:], labels[examples:]

"""
# Kinds whose results follow from the seed of the run. The width of a network decides its kind.
ALLOWED = {
    "a plain network": "",
    "a draw from NumPy's generator in a pass": """
    def change(self, hidden):
        return hidden * (1 + np.random.rand()) if self.training else hidden""",
    "a draw from Python's generator in a pass": """
    def change(self, hidden):
        return hidden.relu() if self.training and random.random() < 0.5 else hidden""",
    "draws from Python's and NumPy's generators in the factory": """
    def begin(self):
        with torch.no_grad():
            self.first.weight.mul_(1 + random.random())
            self.last.weight.mul_(1 + np.random.rand())""",
    "a count of passes that changes nothing": """
    def begin(self):
        self.calls = 0
    def change(self, hidden):
        self.calls += 1
        return hidden""",
    "a list of activations": """
    def begin(self):
        self.history = []
    def change(self, hidden):
        self.history.append(hidden.detach())
        return hidden""",
    "a cached constant": """
    def begin(self):
        self.cache = None
    def change(self, hidden):
        if self.cache is None:
            self.cache = torch.linspace(0.5, 1.5, hidden.shape[-1])
        return hidden * self.cache""",
    "dropout": """
    def begin(self):
        self.drop = nn.Dropout(0.3)
    def change(self, hidden):
        return self.drop(hidden)""",
    "noise from torch's generator": """
    def change(self, hidden):
        return hidden + 0.1 * torch.randn_like(hidden) if self.training else hidden""",
    "noise of a gradient from torch's generator": """
    def change(self, hidden):
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient + 0.1 * torch.randn_like(gradient))
        return hidden""",
    "noise of a gradient from NumPy's generator": """
    def change(self, hidden):
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient * np.random.rand())
        return hidden""",
    "a function that draws in its backward pass": """
    def change(self, hidden):
        return Noisy.apply(hidden)""",
    "a count of passes in a buffer": """
    def begin(self):
        self.register_buffer("calls", torch.zeros(()))
    def change(self, hidden):
        if self.training:
            self.calls += 1
        return hidden * (1 + 1 / (1 + self.calls))""",
    "a running mean that a pass replaces": """
    def begin(self):
        self.register_buffer("mean", torch.zeros(()))
    def change(self, hidden):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean()
        return hidden - self.mean""",
}
# Kinds whose results do not, with the reason that is said.
REFUSED = {
    "a count that matters": (
        """
    def begin(self):
        self.calls = 0
    def change(self, hidden):
        self.calls += 1
        return hidden * min(1.0, self.calls / 100)""",
        "a state in calls",
    ),
    "a list that matters": (
        """
    def begin(self):
        self.history = []
    def change(self, hidden):
        self.history.append(hidden.detach().mean())
        return hidden + sum(self.history[:-1])""",
        "a state in history",
    ),
    "a cache of weights": (
        """
    def begin(self):
        self.cache = {}
    def change(self, hidden):
        return hidden * self.cache.setdefault("norm", self.first.weight.detach().norm())""",
        "a state in cache",
    ),
    "a count outside the module": (
        """
    def change(self, hidden):
        return hidden * (1 + next(CALLS))""",
        "other outputs or gradients from the same parameters and buffers, at the second call",
    ),
    "the clock in a pass": (
        """
    def change(self, hidden):
        return hidden + 1e-9 * (time.time_ns() % 10**9)""",
        "other outputs or gradients from the same parameters and buffers, at the second call",
    ),
    "the system's random bytes in a pass": (
        """
    def change(self, hidden):
        return hidden * (1 + int.from_bytes(os.urandom(4), 'big') / 2**32) if self.training else hidden""",
        "other outputs or gradients from the same parameters and buffers, at the second call",
    ),
    "an unseeded generator of NumPy in a pass": (
        """
    def change(self, hidden):
        return hidden * np.random.default_rng().random()""",
        "other outputs or gradients from the same parameters and buffers, at the second call",
    ),
    "a seed of the system in a pass": (
        """
    def change(self, hidden):
        torch.seed()
        return functional.dropout(hidden, 0.5, self.training)""",
        "other outputs or gradients from the same parameters and buffers, at the second call",
    ),
    "the system's random bytes in a backward pass": (
        """
    def change(self, hidden):
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient * (1 + int.from_bytes(os.urandom(4), 'big') / 2**32))
        return hidden""",
        "other outputs or gradients from the same parameters and buffers, at the second call",
    ),
    "a count of backward passes": (
        """
    def begin(self):
        self.calls = 0
    def count(self, gradient):
        self.calls += 1
        return gradient / self.calls
    def change(self, hidden):
        if hidden.requires_grad:
            hidden.register_hook(self.count)
        return hidden""",
        "a state in calls, which changes the outputs or the gradients in training mode",
    ),
    "the clock in the factory": (
        """
    def begin(self):
        nn.init.constant_(self.last.bias, time.perf_counter_ns() % 10**6)""",
        "other values of last.bias",
    ),
    "the system's random numbers in the factory": (
        """
    def begin(self):
        torch.manual_seed(uuid.uuid4().int % 2**32)
        nn.init.normal_(self.first.weight)""",
        "other values of first.weight",
    ),
    "dropout in evaluation": (
        """
    def change(self, hidden):
        return functional.dropout(hidden, 0.2)""",
        "without random numbers in evaluation mode",
    ),
    "NumPy's draws in evaluation": (
        """
    def change(self, hidden):
        return hidden if self.training else hidden * np.random.rand()""",
        "without random numbers in evaluation mode",
    ),
}
# Kinds that begin to draw in a later pass, and the generator.
LATE = {
    "dropout that begins late": ("functional.dropout(hidden, 0.5)", "torch"),
    "noise of NumPy that begins late": ("hidden * np.random.rand()", "NumPy"),
    "noise of a gradient that begins late": ("noisy(hidden)", "Python"),
}
# Kinds that differ between processes.
OF_PROCESS = {
    "a rate of dropout": """
    def begin(self):
        self.drop = nn.Dropout(0.2 if multiprocessing.parent_process() is None else 0.6)
    def change(self, hidden):
        return self.drop(hidden)""",
    "the hash of a text": """
    def change(self, hidden):
        return hidden + 1e-6 * (hash("a text") % 10**6)""",
}
# Bodies of data functions: those that return the same arrays at every call, and those that do not.
ALLOWED_DATA = {
    "a seeded generator": "return draw(np.random.default_rng(3))",
    "NumPy's generator": "return draw(np.random)",
    "Python's and torch's generators": "return draw(np.random.default_rng(int(1e9 * random.random() * torch.rand(1))))",
}
REFUSED_DATA = {
    "an unseeded generator": "return draw(np.random.default_rng())",
    "the clock": "return draw(np.random.default_rng(time.perf_counter_ns()))",
    "another number of examples": "return draw(np.random.default_rng(0), 60 + os.urandom(1)[0] + os.urandom(1)[0])",
}


@pytest.fixture
def make_small(make_spec: MakeSpec, user_module: UserModule) -> MakeSpec:
    """Return a function that builds a spec of networks of some kinds, whose widths count from 2."""

    def make(*kinds: str, data: str = ALLOWED_DATA["Python's and torch's generators"]) -> SweepSpec:
        classes = [f"class Kind{number}(Net):{kind or ' pass'}\n" for number, kind in enumerate(kinds)]
        names = ", ".join(f"Kind{number}" for number in range(len(kinds)))
        factory = f"def model(width, shape, classes):\n    return [{names}][(width - 2) % {len(kinds)}](width)\n"
        name = user_module("\n".join([HEAD, *classes, factory, f"def data():\n    {data}\n"]))
        return make_spec(
            model={"family": f"{name}:model"},
            dataset={"name": f"{name}:data"},
            grid__parameterization=["own"],
            grid__width=list(range(2, 2 + len(kinds))),
            grid__learning_rate=[0.3, 0.6],
        )

    return make


def compared(spec: SweepSpec, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sweep in one worker, after a dry run, and in two, and return the results."""
    dry_run(spec, folder / "one")
    sweep(spec, folder / "one", jobs=1, quiet=True)
    sweep(spec, folder / "two", jobs=2, quiet=True, max_seconds=0)
    if (folder / "one" / "kernels").exists():
        shutil.copytree(folder / "one" / "kernels", folder / "two" / "kernels", dirs_exist_ok=True)
    sweep(spec, folder / "two", jobs=2, quiet=True)
    assert failures(folder / "one") == failures(folder / "two") == {}
    one, two = (comparable_runs(Study.open(folder / name).runs()) for name in ("one", "two"))
    return one, two


@pytest.mark.usefixtures("two_cores")
def test_allowed_kinds_are_equal_to_the_bit(make_small: MakeSpec, tmp_path: Path) -> None:
    one, two = compared(make_small(*ALLOWED.values()), tmp_path)
    assert len(one) == 4 * len(ALLOWED) and set(one.status) == {"completed"}
    for width, kind in enumerate(ALLOWED, start=2):
        pd.testing.assert_frame_equal(one[one.width == width], two[two.width == width], check_exact=True, obj=kind)
    assert one.groupby(["width", "learning_rate"]).test_loss.nunique().min() == 2


@pytest.mark.parametrize("kind", ALLOWED)
def test_every_allowed_kind_is_allowed_alone(kind: str, make_small: MakeSpec) -> None:
    check_grid(Grid(make_small(ALLOWED[kind])))


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.usefixtures("two_cores")
def test_other_kinds_are_refused_with_the_reason(jobs: int, kind: str, make_small: MakeSpec, tmp_path: Path) -> None:
    text, reason = REFUSED[kind]
    with pytest.raises(BadInput, match=reason):
        sweep(make_small(text), tmp_path / "out", jobs=jobs, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", LATE)
def test_draws_that_begin_late_fail_the_pack(kind: str, make_small: MakeSpec, tmp_path: Path) -> None:
    change, generator = LATE[kind]
    text = f"""
    def begin(self):
        self.register_buffer("calls", torch.zeros(()))
    def change(self, hidden):
        self.calls += self.training
        return {change} if self.training and int(self.calls) > 9 else hidden"""
    sweep(make_small(text), tmp_path / "out", jobs=1, quiet=True)
    errors = set(failures(tmp_path / "out").values())
    assert errors and all(f"numbers from {generator}'s generator in a later pass" in error for error in errors)


@pytest.mark.parametrize("kind", OF_PROCESS)
@pytest.mark.usefixtures("two_cores")
def test_what_depends_on_the_process_fails_in_workers(
    kind: str, make_small: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    sweep(make_small(OF_PROCESS[kind]), tmp_path / "out", jobs=2, quiet=True)
    errors = set(failures(tmp_path / "out").values())
    assert errors and all("other outputs of the module of width 2" in error for error in errors)


@pytest.mark.parametrize("kind", ALLOWED_DATA)
def test_data_from_a_seed_are_allowed(kind: str, make_small: MakeSpec, tmp_path: Path) -> None:
    check_data(tmp_path, Grid(make_small("", data=ALLOWED_DATA[kind])))


@pytest.mark.parametrize("kind", REFUSED_DATA)
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.usefixtures("two_cores")
def test_data_that_differ_at_every_call_are_refused(jobs: int, kind: str, make_small: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the same values at every call"):
        sweep(make_small("", data=REFUSED_DATA[kind]), tmp_path / "out", jobs=jobs, quiet=True)
    assert not (tmp_path / "out").exists()
