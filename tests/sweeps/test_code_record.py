"""A record of code from somebody else builds no module of another width, and ends nothing with a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import SweepSpec, sweep

SOURCE = """
from torch import nn

widths = set()

def model(width, input_shape, num_classes):
    widths.add(width)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": -5}, "Got: width -5"),
        ({"width": 10**6}, "Got: width 1000000"),
        ({"width": 3}, "Got: width 3"),
        ({"width": float("inf")}, "something else"),
        ({"width": "x"}, "something else"),
        ({"outputs": ["x"]}, "something else"),
        ({"outputs": [10**400]}, "something else"),
        ({"shapes": {"a": [float("inf")]}}, "something else"),
        ({"shapes": []}, "something else"),
        ({"files": {"\x1b[2J": "0"}}, "something else"),
        ({"files": {"x": "0"}}, "other code in x"),
    ],
)
def test_a_forged_record_of_code_is_refused(
    change: dict[str, Any],
    words: str,
    tmp_path: Path,
    make_spec: Callable[..., SweepSpec],
    user_module: Callable[[str], str],
) -> None:
    name = user_module(SOURCE)
    spec = make_spec(model__family=f"{name}:model", grid__parameterization=["own"])
    sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    path = tmp_path / "out" / "code.json"
    sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    widths = __import__(name).widths
    before = set(widths)
    (values,) = json.loads(path.read_text())
    path.write_text(json.dumps([{**values, **change}]))
    with pytest.raises(BadInput) as message:
        sweep(spec, tmp_path / "out", jobs=1, quiet=True)
    assert words in str(message.value) and str(message.value).isprintable()
    assert widths == before
