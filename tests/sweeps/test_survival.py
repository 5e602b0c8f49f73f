"""Faults from outside a sweep, such as a kill or a full disk.

No result is lost or stored twice, and the sweep completes afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from noisescale.cli import main
from noisescale.errors import BadInput
from noisescale.store import Failure, compact, comparable_runs
from noisescale.sweeps import Grid, SweepSpec, failures, sweep
from noisescale.sweeps.folder_status import status
from noisescale.sweeps.lock import driver_lock
from noisescale.sweeps.plan import Plan

MakeSpec = Callable[..., SweepSpec]


class HalfDone:
    """A sweep of four packs (sets of runs that train together), of which two are finished.

    Args:
        out: The folder of the sweep.
        make_spec: Builds the spec.
        undisturbed: The runs of the same sweep without any fault.
    """

    def __init__(self, out: Path, make_spec: MakeSpec, undisturbed: pd.DataFrame) -> None:
        self.out, self.spec, self.undisturbed = out, make_spec(grid__width=[2, 3, 4, 5]), undisturbed
        sweep(make_spec(grid__width=[2, 3]), out, quiet=True)
        self.finished = self.shards()

    def shards(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.out / "shards").glob("*.parquet")}

    def check_completes(self) -> None:
        """Complete the sweep, and check that its results equal those of a sweep without a fault."""
        study = sweep(self.spec, self.out, quiet=True)
        assert self.finished.items() <= self.shards().items()
        shards = [pd.read_parquet(path, columns=["run_id"]) for path in (self.out / "shards").glob("*.parquet")]
        planned = [run.run_id for pack in Plan(self.out / "plan.jsonl").packs.values() for run in pack.runs]
        assert sorted(pd.concat(shards).run_id) == sorted(planned)
        assert status(self.out).missing == 0 and failures(self.out) == {}
        assert not list(self.out.rglob(".*.tmp"))
        pd.testing.assert_frame_equal(comparable_runs(study.runs()), self.undisturbed)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    return comparable_runs(sweep(make_spec(grid__width=[2, 3, 4, 5]), out, quiet=True).runs())


@pytest.fixture
def half_done(tmp_path: Path, make_spec: MakeSpec, undisturbed: pd.DataFrame) -> HalfDone:
    return HalfDone(tmp_path / "out", make_spec, undisturbed)


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def emptied(data: bytes) -> bytes:
    return b""


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, emptied, flipped])
def test_the_runs_of_a_damaged_shard_run_again(
    half_done: HalfDone, damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    name = sorted(half_done.finished)[0]
    path, data = half_done.out / "shards" / name, damage(half_done.finished.pop(name))
    path.write_bytes(data)
    # Commands that only read name the file and change nothing.
    assert main(["fit", str(half_done.out)]) == 2
    assert name in capsys.readouterr().err and path.read_bytes() == data
    sweep(half_done.spec, half_done.out)
    assert f"{name} is damaged" in capsys.readouterr().err
    half_done.check_completes()
    assert [path.name for path in (half_done.out / "damaged").iterdir()] == [name]
    assert main(["status", str(half_done.out)]) == 0


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let writes fail if a file would exceed this size in bytes, as a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_limit_on_the_size_of_files_loses_no_results(half_done: HalfDone, share: float) -> None:
    size = int(share * min(map(len, half_done.finished.values())))
    with files_of_at_most(size), pytest.raises(OSError, match="too large"):
        sweep(half_done.spec, half_done.out, quiet=True)
    half_done.check_completes()


def test_an_immutable_folder_loses_no_results(half_done: HalfDone, capfd: pytest.CaptureFixture[str]) -> None:
    shards = str(half_done.out / "shards")
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", shards], stderr=subprocess.PIPE).returncode:
        pytest.skip("this system does not let us make a folder immutable")
    try:
        with pytest.raises(OSError, match="not permitted"):
            sweep(half_done.spec, half_done.out, quiet=True)
    finally:
        subprocess.run(["chattr", "-i", shards], check=True)
    half_done.check_completes()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a system without /proc")
def test_a_path_where_no_folder_can_be_created_is_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(BadInput, match="/proc/noisescale"):
        sweep(make_spec(), "/proc/noisescale", quiet=True)


def test_a_second_driver_is_refused_with_the_name_of_the_first(half_done: HalfDone) -> None:
    with driver_lock(half_done.out):
        with pytest.raises(BadInput, match=f"process {os.getpid()} on {platform.node()} since 2"):
            sweep(half_done.spec, half_done.out, quiet=True)
    half_done.check_completes()


def test_a_clock_that_is_set_back_does_no_harm(half_done: HalfDone, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() + 86_400.0

    def clock() -> float:
        nonlocal now
        now -= 3600.0
        return now

    monkeypatch.setattr(time, "time", clock)
    half_done.check_completes()
    assert status(half_done.out).heartbeat_age == 0.0


@pytest.mark.parametrize("left", [-3.6e-15, -0.0, -5.0])
def test_the_time_left_is_never_negative(half_done: HalfDone, left: float) -> None:
    heartbeat = half_done.out / "heartbeat.json"
    heartbeat.write_text(json.dumps({**json.loads(heartbeat.read_text()), "seconds_left": left}))
    with driver_lock(half_done.out):
        state = status(half_done.out)
    assert state.seconds_left == 0.0
    assert any(line.startswith("running, ") and line.endswith(", time left 0 s") for line in state.lines())


def test_status_reports_that_the_sweep_may_still_plan_runs(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Plan, "add", killed)
        sweep(make_spec(), tmp_path / "out", quiet=True)
    state = status(tmp_path / "out")
    assert (state.missing, state.finished) == (0, False)
    assert any("may still plan further runs" in line and "noisescale sweep" in line for line in state.lines())
    sweep(make_spec(), tmp_path / "out", quiet=True, max_seconds=0.0)
    state = status(tmp_path / "out")
    assert (state.missing, state.finished) == (4, False)
    sweep(make_spec(), tmp_path / "out", quiet=True)
    state = status(tmp_path / "out")
    assert (state.missing, state.finished) == (0, True)
    assert not any("noisescale sweep" in line for line in state.lines())


def test_a_finished_sweep_removes_leftovers_of_compaction(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec, shards = make_spec(grid__width=[2, 3]), tmp_path / "out" / "shards"
    undisturbed = comparable_runs(sweep(spec, tmp_path / "out", quiet=True).runs())
    single = {path: path.read_bytes() for path in shards.iterdir()}
    assert compact(shards, max_single=0) == len(single) == 2
    for path, data in single.items():  # a kill between joining and removing leaves both kinds of files
        path.write_bytes(data)
    pd.testing.assert_frame_equal(comparable_runs(sweep(spec, tmp_path / "out", quiet=True).runs()), undisturbed)
    assert [path.name.startswith("packs-") for path in shards.iterdir()] == [True]


def test_a_moved_folder_is_the_same_study(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec()
    undisturbed = sweep(spec, tmp_path / "here", quiet=True).runs()
    shutil.move(tmp_path / "here", tmp_path / "there")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*.parquet")}
    pd.testing.assert_frame_equal(sweep(spec, tmp_path / "there", quiet=True).runs(), undisturbed)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*.parquet")}
    shutil.copytree(tmp_path / "there", tmp_path / "copy")
    assert status(tmp_path / "copy").missing == 0


def test_a_script_without_a_main_guard_fails_with_advice(tmp_path: Path, make_spec: MakeSpec) -> None:
    values = json.loads(make_spec(seeds=1, grid__learning_rate=[0.5]).model_dump_json(exclude_none=True))
    script = tmp_path / "script.py"
    script.write_text(
        "from noisescale import SweepSpec, sweep\n"
        f"sweep(SweepSpec.from_dict({values!r}), {str(tmp_path / 'out')!r}, jobs=2, quiet=True)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert "if __name__ == '__main__'" in done.stderr
    assert "one driver per folder" not in done.stderr


def test_a_failure_is_removed_once_other_packs_have_its_results(
    tmp_path: Path, make_spec: Callable[..., SweepSpec]
) -> None:
    out = tmp_path / "out"
    runs = sweep(make_spec(), out, jobs=1, quiet=True).runs()
    record = Failure("E: long ago", tuple(Grid(make_spec()).runs())).text()
    (out / "failures" / "of-another-plan.json").write_text(record)
    assert failures(out)
    sweep(make_spec(seeds=3), out, jobs=1, quiet=True)
    assert failures(out) == {} and len(runs) < status(out).completed
