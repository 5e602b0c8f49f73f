"""Sweeps on a real Ray cluster of this machine, and on submitit's stand-in for SLURM."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.store.findings import findings
from noisescale.sweeps import SweepSpec, executors, failures, sweep
from noisescale.sweeps.remote import wall_clock

MakeSpec = Callable[..., SweepSpec]
Misbehaving = Callable[[str, str, str], str]
# Both libraries leave sockets and files to the garbage collector, and warn of what they will change.
KINDS = ("ResourceWarning", "DeprecationWarning", "FutureWarning", "UserWarning",
         "pytest.PytestUnraisableExceptionWarning")  # fmt: skip
LOUD = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in KINDS]


@pytest.fixture
def quiet(request: pytest.FixtureRequest) -> None:
    for mark in LOUD:
        request.node.add_marker(mark)


@pytest.fixture
def submitit_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submitit, with processes of this machine for jobs of a cluster."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setenv("NOISESCALE_SLURM", "local")


def ray_workers() -> list[int]:
    """Processes that train a pack for Ray."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"ray::train_elsewhere" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.full
@pytest.mark.usefixtures("quiet")
def test_a_ray_worker_that_is_killed_costs_nothing(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found through /proc, which this system has not")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Packs of seconds: a worker that is seen to train is still at it when the kill comes.
    spec = make_spec(grid__width=[2, 4, 8, 16], training__steps=30_000)
    known = findings(sweep(spec, tmp_path / "calm", jobs=1, quiet=True).runs())
    killed: list[int] = []

    def kill_one() -> None:
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            for process in ray_workers():
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = sweep(spec, tmp_path / "out", jobs=2, executor="ray", quiet=True)
    killer.join()
    assert killed
    assert failures(tmp_path / "out") == {}
    pd.testing.assert_frame_equal(findings(found.runs()), known)


@pytest.mark.full
@pytest.mark.usefixtures("quiet")
def test_a_ray_node_without_memory_is_a_failure_after_a_few_attempts(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own monitor kills what runs once a node uses more than a share of its memory: here almost none."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_task_oom_retries", raising=False)
    study = sweep(make_spec(), tmp_path / "out", jobs=1, executor="ray", quiet=True)
    assert len(study.finished()) == 0
    assert all("memory of its node" in error for error in failures(tmp_path / "out").values())
    assert failures(tmp_path / "out")


@pytest.mark.full
@pytest.mark.usefixtures("quiet", "submitit_here")
def test_jobs_of_submitit_find_what_workers_find(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(grid__width=[2, 4, 8])
    known = findings(sweep(spec, tmp_path / "calm", jobs=1, quiet=True).runs())
    found = sweep(spec, tmp_path / "out", jobs=2, executor="slurm", quiet=True)
    pd.testing.assert_frame_equal(findings(found.runs()), known)
    assert list((tmp_path / "out" / "slurm").iterdir())


@pytest.mark.full
@pytest.mark.usefixtures("quiet", "submitit_here")
def test_a_model_that_fails_on_submitit_is_a_failure_with_its_reason(
    tmp_path: Path, make_spec: MakeSpec, misbehaving: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    family = misbehaving("dying_model", "width == 4 and 'SUBMITIT_LOCAL_JOB_ID' in os.environ", "os._exit(3)")
    spec = make_spec(model__family=family, grid__width=[3, 4])
    study = sweep(spec, tmp_path / "out", jobs=1, executor="slurm", quiet=True)
    assert set(study.finished().width) == {3}
    (error,) = failures(tmp_path / "out").values()
    assert "slurm/" in error


def test_a_library_that_is_not_there_is_named(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr(executors, "import_module", missing)
    with pytest.raises(BadInput, match=r"pip install 'noisescale\[ray\]'"):
        sweep(make_spec(), tmp_path / "out", executor="ray", quiet=True)
    with pytest.raises(BadInput, match="--executor"):
        sweep(make_spec(), tmp_path / "new", executor="dask", quiet=True)
    assert not (tmp_path / "new").exists()


def test_an_end_means_the_same_on_another_machine() -> None:
    assert wall_clock(float("inf")) == float("inf")
    assert wall_clock(time.monotonic() + 60) == pytest.approx(time.time() + 60, abs=1)
