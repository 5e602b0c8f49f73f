"""The time left: packs in training at their pace, waiting packs at the pace of others, several workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    def make(name: str, seconds: float, width: int = 4, **fields: Any) -> Pack:
        return Pack(name, tuple(make_grid(grid__width=[width], **fields).runs()), seconds)

    return make


def test_nothing_is_known_before_a_pace_is_seen(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    assert left.seconds() == 0.0
    left.add([pack("a", 10.0), pack("b", 10.0)])
    assert left.seconds() is None
    left.see({"a": (0.0, 0.0)})
    clock[0] += 5.0
    assert left.seconds() is None


def test_neither_the_start_of_workers_nor_of_a_pack_counts(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    left.add([pack("a", 10.0)])
    clock[0] += 60.0
    left.see({"a": (0.0, 0.0)})
    # The kernel is chosen, and the first steps are done.
    clock[0] += 5.0
    left.see({"a": (0.0, 0.1)})
    assert left.seconds() is None
    clock[0] += 2.0
    left.see({"a": (0.0, 0.2)})
    assert left.seconds() == pytest.approx(16.0)
    # Without a further report, time passes.
    clock[0] += 3.0
    left.see({"a": (0.0, 0.2)})
    assert left.seconds() == pytest.approx(13.0)


def test_waiting_packs_take_what_packs_of_their_width_take(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    packs = [pack("narrow", 10.0, 4), pack("wide", 10.0, 8), pack("narrow too", 30.0, 4), pack("wide too", 5.0, 8)]
    left.add(packs)
    left.finish(packs[0], 1.0)
    # Nothing is known of the wide ones yet.
    assert left.seconds() == pytest.approx(0.1 * (10 + 30 + 5))
    left.finish(packs[1], 40.0)
    assert left.seconds() == pytest.approx(0.1 * 30 + 4 * 5, rel=0.01)
    left.finish(packs[2], 3.0)
    left.finish(packs[3], 20.0)
    assert left.seconds() == 0.0


def test_workers_take_the_waiting_packs_in_turn(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    left.add([pack(name, 10.0) for name in "abcd"])
    for a, b in ((0.0, 0.0), (0.25, 0.125), (0.5, 0.25)):
        left.see({"a": (0.0, a), "b": (0.0, b)})
        clock[0] += 5.0
    clock[0] -= 5.0
    # They take 20 and 40 seconds, of which 10 and 30 are left. The first worker takes one of the others, of 30 seconds;
    # then the second is free, and takes the last.
    assert left.seconds() == pytest.approx(max(10.0 + 30.0, 30.0 + 30.0))
    left.see({"a": (0.0, 0.5), "b": (0.0, 0.25), "c": (0.0, 0.0)})
    assert left.seconds() == pytest.approx(max(10.0 + 30.0, 30.0, 30.0))


def test_a_pack_of_a_new_width_is_waited_for(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    narrow, wide = pack("narrow", 10.0, 4), pack("wide", 10.0, 8)
    left.add([narrow, wide])
    left.finish(narrow, 1.0)
    left.see({"wide": (0.0, 0.0)})
    assert left.seconds() is None
    for share in (0.1, 0.2):
        clock[0] += 4.0
        left.see({"wide": (0.0, share)})
    assert left.seconds() == pytest.approx(32.0)


def test_the_part_of_an_earlier_sweep_is_neither_left_nor_pace(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    resumed = pack("a", 100.0)
    left.add([resumed, pack("b", 10.0)])
    for share in (0.8, 0.85, 0.9):
        left.see({"a": (0.8, share)})
        clock[0] += 2.0
    clock[0] -= 2.0
    # A tenth in four seconds; 20 planned seconds take 8.
    assert left.seconds() == pytest.approx(4.0 + 10.0 * 8.0 / 20.0)
    clock[0] += 4.0
    left.finish(resumed, 0.0)
    assert left.seconds() == pytest.approx(10.0 * 8.0 / 20.0)


@pytest.mark.parametrize("seconds_per_step", [1e-3, 1e-2])
def test_the_time_of_other_batch_sizes_is_learned(clock: list[float], pack: MakePack, seconds_per_step: float) -> None:
    left = TimeLeft()
    # The overhead of a step decides, but the plan counts operations.
    packs = [
        pack(f"{batch} {steps}", planned, grid__batch_size=[batch], training__steps=steps)
        for batch, steps, planned in ((4, 100, 10.0), (8, 100, 20.0), (4, 400, 40.0), (16, 200, 80.0))
    ]
    left.add(packs)
    for one, steps in zip(packs[:3], (100, 100, 400), strict=True):
        left.finish(one, steps * seconds_per_step)
    assert left.seconds() == pytest.approx(200 * seconds_per_step, rel=0.1)


def test_only_the_first_pack_of_a_shape_chooses_its_kernel(clock: list[float], pack: MakePack) -> None:
    left = TimeLeft()
    first, second, other = pack("a", 10.0), pack("b", 10.0), pack("c", 10.0, grid__batch_size=[8])
    left.add([first, second, other])
    left.see({"a": (0.0, 0.0)})
    clock[0] += 6.0
    left.see({"a": (0.0, 0.5)})
    clock[0] += 1.0
    left.see({"a": (0.0, 0.75)})
    # The steps of a pack take 4 s, of which one is left for the first; a kernel takes 6 s.
    assert left.seconds() == pytest.approx(1.0 + 4.0 + (6.0 + 4.0))
    clock[0] += 1.0
    left.finish(first, 0.0)
    left.see({"b": (0.0, 0.0)})
    assert left.seconds() == pytest.approx(4.0 + (6.0 + 4.0))
