"""Sweeps on a real Ray cluster on this machine, and on submitit's local replacement for SLURM."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.store import comparable_runs
from noisescale.sweeps import SweepSpec, executors, failures, sweep
from noisescale.sweeps.machine import Workers
from noisescale.sweeps.remote import to_wall_clock

MakeSpec = Callable[..., SweepSpec]
Misbehaving = Callable[[str, str, str], str]
# Ray and submitit leave sockets and files to the garbage collector, and warn of future changes.
KINDS = ("ResourceWarning", "DeprecationWarning", "FutureWarning", "UserWarning",
         "pytest.PytestUnraisableExceptionWarning")  # fmt: skip
LOUD = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in KINDS]


@pytest.fixture
def quiet(request: pytest.FixtureRequest) -> None:
    for mark in LOUD:
        request.node.add_marker(mark)


@pytest.fixture
def submitit_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let submitit run jobs as processes of this machine."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setenv("NOISESCALE_SLURM", "local")


def ray_workers(processes: Iterable[int]) -> list[int]:
    """Select the processes in which Ray trains a pack."""
    workers = []
    for process in processes:
        with contextlib.suppress(OSError):  # the process has ended
            if b"ray::train_elsewhere" in Path(f"/proc/{process}/cmdline").read_bytes():
                workers.append(process)
    return workers


@pytest.mark.full
@pytest.mark.usefixtures("quiet", "two_cores")
def test_a_ray_worker_that_is_killed_costs_nothing(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, processes_below: Callable[[int], set[int]]
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are study through /proc, which this system does not have")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Packs take seconds, so a worker that is training when this test finds it still trains when it is killed.
    spec = make_spec(grid__width=[2, 4, 8, 16], training__steps=30_000)
    expected = comparable_runs(sweep(spec, tmp_path / "calm", jobs=1, quiet=True).runs())
    killed: list[int] = []

    def kill_worker() -> None:
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            for process in ray_workers(processes_below(os.getpid())):
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_worker)
    killer.start()
    study = sweep(spec, tmp_path / "out", jobs=2, executor="ray", quiet=True)
    killer.join()
    assert killed
    assert failures(tmp_path / "out") == {}
    pd.testing.assert_frame_equal(comparable_runs(study.runs()), expected)


@pytest.mark.full
@pytest.mark.usefixtures("quiet")
def test_a_ray_node_without_memory_is_a_failure_after_a_few_attempts(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray kills tasks when a node uses more than a set share of its memory. In this test the share is almost zero."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_task_oom_retries", raising=False)
    study = sweep(make_spec(), tmp_path / "out", jobs=1, executor="ray", quiet=True)
    assert len(study.finished()) == 0
    assert all("its node ran out of memory" in error for error in failures(tmp_path / "out").values())
    assert failures(tmp_path / "out")


@pytest.mark.full
@pytest.mark.usefixtures("quiet", "submitit_here", "two_cores")
def test_submitit_gives_the_results_of_local_workers(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(grid__width=[2, 4, 8])
    expected = comparable_runs(sweep(spec, tmp_path / "calm", jobs=1, quiet=True).runs())
    study = sweep(spec, tmp_path / "out", jobs=2, executor="slurm", quiet=True)
    pd.testing.assert_frame_equal(comparable_runs(study.runs()), expected)
    (session,) = (tmp_path / "out" / "slurm").iterdir()
    assert list(session.glob("*_result.pkl"))


@pytest.mark.usefixtures("quiet", "submitit_here")
def test_results_are_read_from_a_folder_with_an_unpredictable_name(tmp_path: Path) -> None:
    """Submitit reads results as pickles, which can execute code, from files whose names are predictable job numbers."""
    from noisescale.sweeps.slurm_executor import SlurmExecutor

    prepared = tmp_path / "slurm"
    prepared.mkdir()
    folders = []
    for _ in range(2):
        with SlurmExecutor(Workers(1, 1, "cpu"), tmp_path, 900.0) as executor:
            folders.append(Path(executor._executor.folder))
    first, second = folders
    assert first != second and first.parent == second.parent == prepared
    assert len(first.name) >= 16 and not list(first.iterdir())


@pytest.mark.full
@pytest.mark.usefixtures("quiet", "submitit_here")
def test_a_model_that_fails_on_submitit_is_a_failure_with_its_reason(
    tmp_path: Path, make_spec: MakeSpec, misbehaving: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    family = misbehaving(
        "dying_model", "width == 4 and 'SUBMITIT_LOCAL_JOB_ID' in os.environ", "os.kill(os.getpid(), 9)"
    )
    spec = make_spec(model__family=family, grid__width=[3, 4])
    study = sweep(spec, tmp_path / "out", jobs=1, executor="slurm", quiet=True)
    assert set(study.finished().width) == {3}
    (error,) = failures(tmp_path / "out").values()
    assert "slurm/" in error


def test_a_missing_library_is_named(tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda library: None)
    for name, words in (("ray", r"pip install 'noisescale\[ray\]'"), ("slurm", "for submitit"), ("dask", "--executor")):
        with pytest.raises(BadInput, match=words):
            sweep(make_spec(), tmp_path / "out", executor=name, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quiet")
def test_an_unknown_kind_of_cluster_is_refused(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setenv("NOISESCALE_SLURM", "pbs")
    with pytest.raises(BadInput, match="NOISESCALE_SLURM: local or slurm"):
        sweep(make_spec(), tmp_path / "out", executor="slurm", quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_deadline_is_the_same_moment_on_another_machine() -> None:
    assert to_wall_clock(float("inf")) == float("inf")
    assert to_wall_clock(time.monotonic() + 60) == pytest.approx(time.time() + 60, abs=1)
