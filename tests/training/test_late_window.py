from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.training.late_window import evaluation_steps, late_mean_and_drift, late_windows


def test_the_last_quarter_of_twenty_evaluations() -> None:
    evaluated = evaluation_steps(lambda share: round(1000 * share), 20)
    assert evaluated == list(range(0, 1001, 50))
    late, before = late_windows(evaluated, 0.25)
    assert evaluated[late] == [800, 850, 900, 950, 1000]
    assert evaluated[before] == [550, 600, 650, 700, 750]


@given(st.integers(1, 5000), st.integers(1, 60), st.floats(0.01, 1.0))
def test_windows_are_adjacent_and_equal_and_the_late_one_ends_last(steps: int, evaluations: int, share: float) -> None:
    evaluated = evaluation_steps(lambda share: round(steps * share), evaluations)
    assert evaluated[0] == 0 and evaluated[-1] == steps and evaluated == sorted(set(evaluated))
    late, before = late_windows(evaluated, share)
    assert late.stop == len(evaluated) and before.stop == late.start
    assert 1 <= late.stop - late.start
    assert all(step > (1 - share) * steps for step in evaluated[late])
    assert before.stop - before.start in (late.stop - late.start, late.start)


def test_mean_and_drift_of_a_curve() -> None:
    curve = [9.0, 9.0, 1.0, 3.0, 4.0, 8.0]
    mean, drift = late_mean_and_drift(curve, [0, 10, 20, 30, 40, 50], 0.4)
    assert (mean, drift) == (6.0, 4.0)


def test_the_drift_is_nan_without_an_earlier_window() -> None:
    mean, drift = late_mean_and_drift([2.0], [7], 0.25)
    assert mean == 2.0 and math.isnan(drift)


@given(st.floats(-1, 1), st.integers(4, 40))
def test_a_straight_line_drifts_by_the_length_of_the_window(slope: float, evaluations: int) -> None:
    evaluated = evaluation_steps(lambda share: round(100 * evaluations * share), evaluations)
    late, _ = late_windows(evaluated, 0.25)
    _, drift = late_mean_and_drift([slope * step for step in evaluated], evaluated, 0.25)
    assert drift == pytest.approx(slope * 100 * (late.stop - late.start), abs=1e-6)
