"""A short form of `make faults`: two kills of a real sweep."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "faults.py"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found through /proc, which this system has not")
    spec = importlib.util.spec_from_file_location("faults", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "faults", module)
    spec.loader.exec_module(module)
    return module


def test_a_sweep_that_is_killed_twice_holds_every_run_once(faults: ModuleType, tmp_path: Path) -> None:
    # Two kills need a sweep that is still at work when the second comes: one width at 500 steps could be done by then.
    kills, checks, runs = faults.torment(tmp_path, ["group", "driver"], seed=7, steps=2000, widths=[4, 8, 16])
    assert [kill.kind for kill in kills] == ["group", "driver"]
    assert runs > 50
    assert [fact for fact, holds in checks.facts.items() if not holds] == []
