"""Workers that are stuck, packs (runs that train together) that take too long, and the log lines of both."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.cli import COMMANDS
from noisescale.sweeps import SweepSpec, failures, sweep
from noisescale.sweeps.log import FILE
from noisescale.sweeps.watchdog import STUCK_AFTER, AliveFile, Watchdog, read_step_shares, remove_alive_files

MakeSpec = Callable[..., SweepSpec]

Misbehaving = Callable[[str, str, str], str]


def test_a_pack_is_stuck_when_its_file_has_not_changed_for_too_long(tmp_path: Path) -> None:
    now = [0.0]
    watchdog, alive_file = Watchdog(tmp_path / "reports", 10.0, lambda: now[0]), AliveFile(tmp_path / "reports", "a")
    alive_file.write()  # the last report of an earlier worker
    watchdog.watch("a")
    watchdog.watch("b")
    now[0] = 99.0
    assert watchdog.stuck(["a", "b"]) == [] and not watchdog.has_started("a")  # both packs wait for a free worker
    now[0] = 100.0
    alive_file.write()
    for second in range(12):
        now[0] = 100.0 + second
        assert watchdog.stuck(["a"]) == (["a"] if second > 10 else [])
    assert watchdog.has_started("a") and not watchdog.has_started("b")
    os.utime(tmp_path / "reports" / "a.alive", ns=(1, 1))  # a clock that was set back counts as a report
    assert watchdog.stuck(["a"]) == []
    for second in range(12):
        now[0] = 112.0 + second
        stuck = watchdog.stuck(["a", "b"])
    assert stuck == ["a"]
    watchdog.watch("a")
    assert watchdog.stuck(["a"]) == []
    alive_file.remove()
    alive_file.remove()
    assert watchdog.stuck(["a"]) == [] and not watchdog.has_started("a")


def test_the_time_in_which_everything_was_stopped_does_not_count(tmp_path: Path) -> None:
    now = [0.0]
    watchdog, alive_file = Watchdog(tmp_path, 100.0, lambda: now[0]), AliveFile(tmp_path, "a")
    watchdog.watch("a")
    alive_file.write()
    looks = [1.0, 2.0, 5000.0, 5001.0, *(5002.0 + second for second in range(96))]
    for when in looks:
        now[0] = when
        assert watchdog.stuck(["a"]) == []
    for when in (5098.0, 5099.0, 5100.0):
        now[0] = when
        stuck = watchdog.stuck(["a"])
    assert stuck == ["a"]


def test_a_report_holds_the_shares_of_the_steps(tmp_path: Path) -> None:
    given = {"a": (0.0, 0.0), "b": (0.0, 0.25), "c": (0.5, 1.0)}
    for name, shares in given.items():
        AliveFile(tmp_path, name).write(*shares)
    (tmp_path / "torn.alive").write_text("")
    (tmp_path / "old.alive").write_text("0.5")
    (tmp_path / "foreign.alive").write_text("0 1e9")
    assert read_step_shares(tmp_path) == {**given, "foreign": (0.0, 0.0)}
    remove_alive_files(tmp_path)
    assert read_step_shares(tmp_path) == read_step_shares(tmp_path / "nowhere") == {}


@pytest.mark.usefixtures("two_cores")
def test_a_stuck_worker_is_killed_and_costs_only_its_pack(
    tmp_path: Path, make_spec: MakeSpec, misbehaving: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    when = "width == 7 and multiprocessing.parent_process() is not None and os.path.exists('stuck')"
    family = misbehaving("stuck_model", when, "time.sleep(600)")
    (tmp_path / "stuck").touch()
    spec = make_spec(model__family=family, grid__width=[3, 7])
    study = sweep(spec, tmp_path / "out", jobs=2, quiet=True, stuck_after=2.0)
    assert set(study.finished().width) == {3}
    (error,) = failures(tmp_path / "out").values()
    assert "reported no progress for 2 s, twice" in error
    log = (tmp_path / "out" / FILE).read_text()
    assert "width 7" in log and "reported no progress" in log and "width 3" in log and "done in" in log
    (tmp_path / "stuck").unlink()
    again = sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs()
    assert set(again.width) == {3, 7} and (again.status == "completed").all()


def test_a_pack_that_takes_too_long_fails_and_continues_with_a_longer_limit(
    tmp_path: Path, make_spec: MakeSpec
) -> None:
    spec = make_spec(training__steps=300)
    calm = sweep(spec, tmp_path / "calm", jobs=1, quiet=True).runs().set_index("run_id")
    runs = sweep(spec, tmp_path / "out", jobs=1, quiet=True, max_pack_seconds=0.0).runs()
    assert (runs.status == "failed").all() and runs.error.str.contains("not done after 0 s").all()
    (checkpoint,) = (tmp_path / "out" / "checkpoints").glob("*.pt")
    assert checkpoint.stat().st_size > 0
    # The pack has not started again, so the record of its failure stays.
    sweep(spec, tmp_path / "out", jobs=1, quiet=True, max_seconds=0.0)
    assert len(failures(tmp_path / "out")) == 1
    again = sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs().set_index("run_id")
    assert again.test_accuracy.equals(calm.test_accuracy.loc[again.index])
    assert failures(tmp_path / "out") == {}


def test_the_command_and_the_function_have_the_same_default() -> None:
    assert inspect.signature(COMMANDS["sweep"]).parameters["stuck_after"].default == STUCK_AFTER
