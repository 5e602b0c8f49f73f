"""A short form of `make faults`; the long form adds faults that need a cluster or a separate file system."""

from __future__ import annotations

import importlib
import os
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from noisescale.cli import main

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found through /proc, which this system does not have")
    # At the end of the path, so that these modules do not hide those of libraries.
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return importlib.import_module("faults")


def check(faults: ModuleType, name: str, folder: Path) -> None:
    """Apply a fault and require that all checks pass."""
    fault, size = faults.FAULTS[name]
    undisturbed = faults.Undisturbed(folder / "undisturbed")
    row = faults.trial(name, faults.Subject(folder / "subject", size), fault, random.Random(name), undisturbed)
    if row.after is None:
        pytest.skip(row.report.description)
    assert row.passed, row


def test_a_sweep_that_is_killed_and_interrupted_equals_an_undisturbed_one(
    faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Subject(faults.Subject):  # type: ignore[name-defined, misc]
        """Completes the sweep in this process, which has imported torch already."""

        def complete(self, out: Path | None = None) -> object:
            return SimpleNamespace(code=main(["sweep", str(self.spec), "--out", str(out or self.out), "--jobs", "1"]))

    # One thread, like each of the two workers.
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    subject = Subject(tmp_path / "subject", faults.Size(widths=(4, 8), steps=1000, seeds=2))
    fault = faults.partial(faults.kill, kinds=["driver", "interrupt twice"])
    row = faults.trial("kill", subject, fault, random.Random(7), faults.Undisturbed(tmp_path / "undisturbed"))
    assert row.report.times == 2
    assert row.after.runs > 50
    assert row.passed, row


@pytest.mark.full
@pytest.mark.parametrize("name", ["disk full", "immutable folder", "read-only folder", "clock set back"])
def test_a_sweep_survives_a_folder_that_is_not_writable_for_a_while(
    faults: ModuleType, tmp_path: Path, name: str
) -> None:
    check(faults, name, tmp_path)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # Ray leaves open sockets and files to the garbage collector
def test_a_sweep_survives_the_loss_of_a_node(faults: ModuleType, tmp_path: Path) -> None:
    check(faults, "Ray node removed", tmp_path)
