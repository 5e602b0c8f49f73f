"""Time in which the process was stopped is not time of training."""

from __future__ import annotations

import pytest

from noisescale.training import stopwatch


@pytest.mark.parametrize(
    ("passed", "worked", "seconds"),
    [(0.5, 0.01, 0.5), (59.0, 0.0, 59.0), (300.0, 120.0, 300.0), (3600.0, 1.5, 1.5), (61.0, 5.0, 5.0)],
)
def test_a_long_time_with_little_work_counts_by_its_work(
    passed: float, worked: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = {"perf_counter": 10.0, "process_time": 3.0}
    for name in clocks:
        monkeypatch.setattr(stopwatch.time, name, lambda name=name: clocks[name])
    watch = stopwatch.Stopwatch()
    clocks["perf_counter"] += passed
    clocks["process_time"] += worked
    assert watch.seconds() == pytest.approx(seconds)
