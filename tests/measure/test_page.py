"""The page of the instruments names every instrument, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from noisescale import measure

PAGE = (Path(__file__).parents[2] / "docs" / "measure.md").read_text(encoding="utf-8")


# Names that are exported only for other packages: the command `noisescale measure`, sweeps and claims.
INTERNAL = {"load_model", "measure_model", "measure_pack", "rotation_angles"}


def test_every_instrument_is_on_the_page() -> None:
    functions = {name for name in dir(measure) if name.islower() and callable(getattr(measure, name))}
    assert functions >= INTERNAL
    instruments = functions - INTERNAL | {"NoiseMonitor"}
    assert len(instruments) > 9
    assert [name for name in sorted(instruments) if f"`{name}`" not in PAGE and f"`{name}," not in PAGE] == []


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, scope)
    output = capsys.readouterr().out
    assert "examples" in output and "True" in output and "±" in output
