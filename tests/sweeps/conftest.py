"""Fixtures for sweeps: small specs on the digits, planted results, a single core, and models that misbehave."""

from __future__ import annotations

import os
import random
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from noisescale.runs import Run
from noisescale.sweeps import Grid, SweepSpec

# Test folders are not packages, so that modules beside the tests are imported from here.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def plain(small_spec: str) -> dict[str, Any]:
    return tomllib.loads(small_spec)


@pytest.fixture(scope="session")
def make_spec(small_spec: str) -> Callable[..., SweepSpec]:
    """Return a function that changes keys of a small spec.

    In the name of a key, `__` stands for a dot. The value None removes the key.
    """

    def make(**changes: Any) -> SweepSpec:
        values = tomllib.loads(small_spec)
        for key, value in changes.items():
            section: dict[str, Any] = values
            *path, last = key.split("__")
            for part in path:
                section = section.setdefault(part, {})
            if value is None:
                section.pop(last, None)
            else:
                section[last] = value
        return SweepSpec.from_dict(values)

    return make


@pytest.fixture(scope="session")
def make_grid(make_spec: Callable[..., SweepSpec]) -> Callable[..., Grid]:
    return lambda **changes: Grid(make_spec(**changes))


Outcome = Callable[[Run], dict[str, Any]]


@pytest.fixture(scope="session")
def results_frame() -> Callable[[Iterable[Run], Outcome], pd.DataFrame]:
    """Return a function that builds a table of results with the columns that the rules for further runs read."""

    def frame(runs: Iterable[Run], outcome: Outcome) -> pd.DataFrame:
        plain = {
            "status": "completed",
            "collapsed": False,
            "late": True,
            "chance_accuracy": 0.1,
            "chance_loss": 2.3,
            "test_accuracy": 0.5,
            "test_loss": 1.0,
        }
        rows = [{"run_id": run.run_id, **plain, **outcome(run)} for run in runs]
        return pd.DataFrame(rows, columns=["run_id", *plain])

    return frame


Rule = Callable[[pd.DataFrame], list[Run]]


@pytest.fixture(scope="session")
def finish(results_frame: Callable[[Iterable[Run], Outcome], pd.DataFrame]) -> Callable[..., list[Run]]:
    """Return a function that applies a rule for runs until no run is missing, and returns all runs.

    With `chance`, only some of the missing runs finish between two calls of the rule.
    """

    def apply(rule: Rule, outcome: Outcome, chance: random.Random | None = None) -> list[Run]:
        done: dict[str, Run] = {}
        for _ in range(1000):
            missing = [run for run in rule(results_frame(done.values(), outcome)) if run.run_id not in done]
            if not missing:
                return list(done.values())
            if chance is not None:
                missing = chance.sample(missing, chance.randint(len(missing) // 3 + 1, len(missing)))
            done.update((run.run_id, run) for run in missing)
        raise AssertionError("the rule does not end")

    return apply


@pytest.fixture
def user_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Return a function that writes a user's module under a name of its test, and returns the name."""

    def write(source: str) -> str:
        name = f"user_module_{abs(hash(request.node.nodeid))}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        return name

    return write


@pytest.fixture(autouse=True, scope="session")
def single_core() -> Iterator[None]:
    """Let sweeps see a single core, so that they train in this process, unless a test uses `two_cores`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
        yield


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], str]:
    """Return a function that writes a module with a factory of MLPs that misbehaves under a condition.

    The function takes the name of the module, the condition, and the statement to execute under it (both in Python
    code), and returns the name of the factory for `model.family`.
    """

    def write(name: str, when: str, then: str) -> str:
        (tmp_path / f"{name}.py").write_text(
            "import multiprocessing, os, time\nfrom torch import nn\n\n"
            "def factory(width, input_shape, num_classes):\n"
            f"    if {when}:\n        {then}\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return f"{name}:factory"

    return write
