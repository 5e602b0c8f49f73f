"""Workers that are stuck, packs that take too long, and the log that says so."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale import cli
from noisescale.sweeps import SweepSpec, failures, sweep
from noisescale.sweeps.log import FILE
from noisescale.sweeps.watchdog import STUCK_AFTER, LifeSign, Watchdog, clear_signs, shares_done

MakeSpec = Callable[..., SweepSpec]

Misbehaving = Callable[[str, str, str], str]


def test_a_pack_is_stuck_once_its_sign_has_not_changed_for_too_long(tmp_path: Path) -> None:
    now = [0.0]
    dog, life = Watchdog(tmp_path / "signs", 10.0, lambda: now[0]), LifeSign(tmp_path / "signs", "a")
    life.give()  # by a worker of yesterday
    dog.begin("a")
    dog.begin("b")
    now[0] = 99.0
    assert dog.stuck(["a", "b"]) == [] and not dog.has_begun("a")  # they wait for a place
    now[0] = 100.0
    life.give()
    for when, found in ((100.0, []), (109.0, []), (111.0, ["a"])):
        now[0] = when
        assert dog.stuck(["a"]) == found
    assert dog.has_begun("a") and not dog.has_begun("b")
    os.utime(tmp_path / "signs" / "a.alive", ns=(1, 1))  # a clock that was set back is a sign like any other
    assert dog.stuck(["a"]) == []
    now[0] = 130.0
    assert dog.stuck(["a", "b"]) == ["a"]
    dog.begin("a")
    assert dog.stuck(["a"]) == []
    life.end()
    life.end()
    assert dog.stuck(["a"]) == [] and not dog.has_begun("a")


def test_a_sign_says_how_far_a_pack_is(tmp_path: Path) -> None:
    given = {"a": (0.0, 0.0), "b": (0.0, 0.25), "c": (0.5, 1.0)}
    for name, shares in given.items():
        LifeSign(tmp_path, name).give(*shares)
    (tmp_path / "torn.alive").write_text("")
    (tmp_path / "old.alive").write_text("0.5")
    (tmp_path / "foreign.alive").write_text("0 1e9")
    assert shares_done(tmp_path) == {**given, "foreign": (0.0, 0.0)}
    clear_signs(tmp_path)
    assert shares_done(tmp_path) == shares_done(tmp_path / "nowhere") == {}


@pytest.mark.usefixtures("two_cores")
def test_a_stuck_worker_is_killed_and_costs_only_its_own_pack(
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
    assert "gave no sign of life for 2 s, twice" in error
    log = (tmp_path / "out" / FILE).read_text()
    assert "width 7" in log and "gave no sign of life" in log and "width 3" in log and "done in" in log
    (tmp_path / "stuck").unlink()
    again = sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs()
    assert set(again.width) == {3, 7} and (again.status == "completed").all()


def test_a_pack_that_takes_too_long_fails_and_goes_on_with_a_longer_limit(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(training__steps=300)
    calm = sweep(spec, tmp_path / "calm", jobs=1, quiet=True).runs().set_index("run_id")
    runs = sweep(spec, tmp_path / "out", jobs=1, quiet=True, max_pack_seconds=0.0).runs()
    assert (runs.status == "failed").all() and runs.error.str.contains("not done after 0 s").all()
    (checkpoint,) = (tmp_path / "out" / "checkpoints").glob("*.pt")
    assert checkpoint.stat().st_size > 0
    sweep(
        spec, tmp_path / "out", jobs=1, quiet=True, max_seconds=0.0
    )  # not begun again: it is still the one that failed
    assert len(failures(tmp_path / "out")) == 1
    again = sweep(spec, tmp_path / "out", jobs=1, quiet=True).runs().set_index("run_id")
    assert again.test_accuracy.equals(calm.test_accuracy.loc[again.index])
    assert failures(tmp_path / "out") == {}


def test_the_command_has_the_default_of_the_function() -> None:
    assert inspect.signature(cli.sweep_command).parameters["stuck_after"].default == STUCK_AFTER
