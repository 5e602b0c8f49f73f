from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from noisescale.sweeps import Grid
from noisescale.sweeps.jobs import Outcome
from noisescale.sweeps.plan import Pack
from noisescale.sweeps.progress import Counts, SweepProgress


@pytest.fixture
def packs(make_grid: Callable[..., Grid]) -> list[Pack]:
    runs = tuple(make_grid().runs())
    return [Pack("a", runs, 30.0), Pack("b", runs[:2], 10.0)]


def test_the_line_counts_runs_and_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 50.0)
    counts = Counts(done=4, total=6, diverged=1, began=20.0, seconds_left=10.2)
    assert counts.line() == "4/6 runs, 0.1 runs/s, 10 s left, 1 diverged"
    # The speed is not known before a run has finished.
    assert Counts(total=6, began=20.0).line() == "0/6 runs, time left unknown, 0 diverged"
    counts.failed = 2
    assert counts.line().endswith("1 diverged, 2 failed")


def test_the_heartbeat_counts_finished_packs(tmp_path: Path, packs: list[Pack]) -> None:
    progress = SweepProgress(tmp_path, quiet=True)
    progress.start_round("grid", packs)
    heartbeat = json.loads((tmp_path / "heartbeat.json").read_text())
    assert (heartbeat["done"], heartbeat["total"], heartbeat["seconds_left"]) == (0, 6, None)
    progress.finish_pack(packs[0], Outcome("a", 4, 1, {}))
    progress.finish_pack(packs[1], Outcome("b", 2, 0, {}, "RuntimeError: no"))
    assert vars(progress.counts).items() >= {"done": 4, "diverged": 1, "failed": 2, "seconds_left": 0.0}.items()


def test_the_heartbeat_is_written_at_most_once_a_second(tmp_path: Path, packs: list[Pack]) -> None:
    progress = SweepProgress(tmp_path, quiet=True)
    progress.start_round("grid", packs)
    written = (tmp_path / "heartbeat.json").stat().st_mtime_ns
    for _ in range(100):
        progress.refresh()
    assert (tmp_path / "heartbeat.json").stat().st_mtime_ns == written


def test_a_terminal_shows_a_bar(tmp_path: Path, packs: list[Pack], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("noisescale.sweeps.progress.Console", lambda **options: terminal)
    progress = SweepProgress(tmp_path)
    progress.start_round("grid", packs)
    progress.finish_pack(packs[0], Outcome("a", 4, 0, {}))
    progress.refresh()
    progress.start_round("extensions", packs[1:])
    progress.stop(done=True)
    assert "grid" in screen.getvalue()
    assert "4/8 runs" in screen.getvalue()


def test_runs_of_stability_ladders_may_diverge(tmp_path: Path, packs: list[Pack]) -> None:
    progress = SweepProgress(tmp_path, quiet=True)
    run = packs[0].runs[0]
    ends = [Pack("grid", (run,), 1.0), Pack("ladder", (replace(run, purpose="stability"),), 1.0)]
    progress.start_round("grid and stability ladders", ends)
    for pack in ends:
        progress.finish_pack(pack, Outcome(pack.pack_id, 1, 1, {"training": 1.0}))
    assert progress.counts.done == 2 and progress.counts.diverged == 1


def test_the_remaining_work_ends_at_zero(tmp_path: Path) -> None:
    chance = random.Random(0)  # with this seed, subtracting all packs from their sum leaves −4e-15
    packs = [Pack(str(number), (), 10 * chance.random()) for number in range(7)]
    progress = SweepProgress(tmp_path, quiet=True)
    progress.start_round("grid", packs)
    for pack in packs:
        progress.finish_pack(pack, Outcome(pack.pack_id, 0, 0, {}))
        assert (progress.counts.seconds_left or 0.0) >= 0 and "-" not in progress.counts.line()
