"""The time left: packs in training at their pace, waiting packs at the pace of others, several workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from noisescale.sweeps import Grid
from noisescale.sweeps.plan import Pack
from noisescale.sweeps.time_left import TimeLeft

MakePack = Callable[..., Pack]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def pack(make_grid: Callable[..., Grid]) -> MakePack:
    def make(name: str, seconds: float, width: int = 4) -> Pack:
        return Pack(name, tuple(make_grid(grid__width=[width]).runs()), seconds)

    return make


def test_nothing_is_known_before_a_pace_is_seen(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    assert left.seconds() == 0.0
    left.add([pack("a", 10.0), pack("b", 10.0)])
    assert left.seconds() is None
    left.see({"a": (0.0, 0.0)})
    clock[0] += 5.0
    assert left.seconds() is None


def test_the_start_of_workers_does_not_count(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    left.add([pack("a", 10.0)])
    clock[0] += 60.0
    left.see({"a": (0.0, 0.0)})
    clock[0] += 2.0
    left.see({"a": (0.0, 0.1)})
    assert left.seconds() == pytest.approx(18.0)
    # Without a further report, time passes.
    clock[0] += 3.0
    left.see({"a": (0.0, 0.1)})
    assert left.seconds() == pytest.approx(15.0)


def test_waiting_packs_take_what_packs_of_their_width_take(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    packs = [pack("narrow", 10.0, 4), pack("wide", 10.0, 8), pack("narrow too", 30.0, 4), pack("wide too", 5.0, 8)]
    left.add(packs)
    left.finish(packs[0], 1.0)
    # Nothing is known of the wide ones yet.
    assert left.seconds() == pytest.approx(0.1 * (10 + 30 + 5))
    left.finish(packs[1], 40.0)
    assert left.seconds() == pytest.approx(0.1 * 30 + 4 * 5)
    left.finish(packs[2], 3.0)
    left.finish(packs[3], 20.0)
    assert left.seconds() == 0.0


def test_workers_take_the_waiting_packs_in_turn(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    left.add([pack(name, 10.0) for name in "abcd"])
    left.see({"a": (0.0, 0.0), "b": (0.0, 0.0)})
    clock[0] += 10.0
    left.see({"a": (0.0, 0.5), "b": (0.0, 0.25)})
    # 10 and 30 seconds are left at their paces. The waiting ones take the mean pace, 20 seconds for 7.5 planned ones.
    # The first worker takes one; then the other is free, and takes the last.
    waiting = 10.0 * 20 / 7.5
    assert left.seconds() == pytest.approx(max(10.0 + waiting, 30.0 + waiting))
    clock[0] += 10.0
    left.see({"a": (0.0, 1.0), "b": (0.0, 0.5), "c": (0.0, 0.0)})
    assert left.seconds() is not None


def test_the_part_of_an_earlier_sweep_is_neither_left_nor_pace(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    resumed = pack("a", 100.0)
    left.add([resumed, pack("b", 10.0)])
    left.see({"a": (0.8, 0.8)})
    clock[0] += 4.0
    left.see({"a": (0.8, 0.9)})
    assert left.seconds() == pytest.approx(4.0 + 10.0 * 4.0 / 10.0)
    clock[0] += 4.0
    left.finish(resumed, 0.0)
    assert left.seconds() == pytest.approx(10.0 * 8.0 / 20.0)
