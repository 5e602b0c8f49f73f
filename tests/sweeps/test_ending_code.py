"""A model that tries to end the process fails its pack: exit code 1, never 0 with runs missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from noisescale.cli import main
from noisescale.store import Study
from noisescale.sweeps import failures

MODEL = """
import os, sys
import torch
from torch import nn


class NoText(Exception):
    def __str__(self):
        raise RuntimeError


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.last, self.width = nn.Linear(64, width), nn.Linear(width, 10), width

    def forward(self, x):
        if torch.is_grad_enabled() and self.width == 4:
            {statement}
        return self.last(self.first(x.flatten(1)).relu())


def model(width, shape, classes):
    return Net(width)
"""
SPEC = """
name = "ending"
seeds = 1
[dataset]
name = "digits"
train_size = 60
test_size = 20
[model]
family = "{module}:model"
[grid]
parameterization = ["own"]
width = [3, 4]
learning_rate = [0.1]
batch_size = [10]
[training]
steps = 12
evaluations = 2
[stability]
seeds = 0
"""
STATEMENTS = {
    "sys.exit(0)": "the code called sys.exit(0)",
    "os._exit(0)": "the code called os._exit(0)",
    "raise KeyboardInterrupt": "the code raised KeyboardInterrupt",
    "raise BaseException('odd')": "the code raised BaseException: odd",
    "raise NoText": "NoText: its text raises RuntimeError",
    "raise ValueError('\\x1b[31m' + 'x' * 10_000)": "ValueError: \\x1b[31mxxx",
}


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.full)])
@pytest.mark.parametrize(("number", "statement"), list(enumerate(STATEMENTS)))
def test_the_sweep_goes_on_and_ends_with_code_1(
    jobs: int, number: int, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = f"ending_model_{number}_{jobs}"
    (tmp_path / f"{module}.py").write_text(MODEL.format(statement=statement))
    (tmp_path / "spec.toml").write_text(SPEC.format(module=module))
    assert main(["sweep", "spec.toml", "--out", "out", "--jobs", str(jobs)]) == 1
    (error,) = failures("out").values()
    assert STATEMENTS[statement] in error and len(error) < 700
    assert set(Study.open("out").finished().width) == {3}
    assert main(["status", "out"]) == 1
