"""A short form of `make faults`, and in the long form what needs a cluster or a file system of its own."""

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
        pytest.skip("processes are found through /proc, which this system has not")
    # At the end: names of benchmarks must not come before those of libraries.
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return importlib.import_module("faults")


def check(faults: ModuleType, name: str, folder: Path) -> None:
    """What befalls by name, and that everything holds afterwards."""
    befall, size = faults.FAULTS[name]
    calm = faults.Undisturbed(folder / "undisturbed")
    row = faults.trial(name, faults.Subject(folder / "subject", size), befall, random.Random(name), calm)
    if row.after is None:
        pytest.skip(row.report.done)
    assert row.good, row


def test_a_sweep_that_is_killed_and_interrupted_twice_is_as_if_it_were_not(
    faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Subject(faults.Subject):  # type: ignore[name-defined, misc]
        """Its last run, and that of the undisturbed sweep, are in this process, which has torch already."""

        def complete(self, out: Path | None = None) -> object:
            return SimpleNamespace(code=main(["sweep", str(self.spec), "--out", str(out or self.out), "--jobs", "1"]))

    # One thread, as each of the two workers has.
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    subject = Subject(tmp_path / "subject", faults.Size(widths=(4, 8), steps=1000, seeds=2))
    befall = faults.partial(faults.kill, kinds=["driver", "interrupt twice"])
    row = faults.trial("kill", subject, befall, random.Random(7), faults.Undisturbed(tmp_path / "undisturbed"))
    assert row.report.times == 2
    assert row.after.runs > 50
    assert row.good, row


@pytest.mark.full
@pytest.mark.parametrize("name", ["disk full", "immutable folder", "read-only folder", "clock set back"])
def test_a_place_that_cannot_be_written_for_a_while(faults: ModuleType, tmp_path: Path, name: str) -> None:
    check(faults, name, tmp_path)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # Ray leaves sockets and files to the garbage collector
def test_a_cluster_that_loses_a_node(faults: ModuleType, tmp_path: Path) -> None:
    check(faults, "Ray node removed", tmp_path)
