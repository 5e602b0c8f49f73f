"""Warnings from a user's model appear once, whether it trains in this process or in workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.sweeps import SweepSpec, sweep
from noisescale.sweeps.model_warnings import collect_warnings

MakeSpec = Callable[..., SweepSpec]

MODEL = """
import warnings
from torch import nn

class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        warnings.warn(f"seen {len(x)}", stacklevel=1)
        return self.body(x)

def factory(width, input_shape, num_classes):
    warnings.warn(f"width {width}", UserWarning, stacklevel=1)
    return Net(width, num_classes)
"""


def test_the_first_warning_of_each_line_is_kept_up_to_a_limit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with collect_warnings() as collected:
            for number in range(3):
                warnings.warn(f"number {number}", stacklevel=1)
            for line in range(50):
                warnings.warn_explicit("elsewhere", RuntimeWarning, "/some/place.py", line)
    assert [text for place, text in collected.items() if "test_model_warnings.py" in place] == ["number 0"]
    assert len(collected) == 20 and collected["RuntimeWarning of place.py, line 3"] == "elsewhere"


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.usefixtures("two_cores")
def test_a_sweep_prints_each_warning_once(
    jobs: int, tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "warning_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = make_spec(model__family="warning_model:factory", grid__width=[2, 3, 4])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *arguments: None  # the driver builds the model once, which warns too
        sweep(spec, tmp_path / "out", jobs=jobs)
    notes = [line for line in capfd.readouterr().err.splitlines() if "warning_model.py, line" in line]
    assert len(notes) == 2, notes
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log.count("warning_model.py, line 11") == log.count("warning_model.py, line 15") == 1
