from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from noisescale.sweeps.axes import Fractions, NonNegativeNumbers, PositiveNumbers, WholeNumbers, ladder


def parse(axis: Any, value: Any) -> tuple[float, ...]:
    parsed: tuple[float, ...] = TypeAdapter(axis).validate_python(value)
    return parsed


@given(
    start=st.floats(1e-6, 1e3), octaves=st.floats(0.01, 20), factor=st.sampled_from([1.1, math.sqrt(2), 2.0, 4.0, 10.0])
)
def test_a_ladder_has_both_ends_and_the_stated_number_of_equal_steps(
    start: float, octaves: float, factor: float
) -> None:
    end = start * 2**octaves
    steps = math.log(end / start) / math.log(factor)
    # Half a step may be rounded up or down, depending on the last bit of the logarithms.
    assume(abs(steps % 1 - 0.5) > 1e-9)
    values = ladder(start, end, factor)
    rungs = round(steps)
    assert len(values) == rungs + 1
    assert values[0] == start
    if rungs:
        assert values[-1] == end
        ratios = [b / a for a, b in zip(values, values[1:], strict=False)]
        assert ratios == pytest.approx([(end / start) ** (1 / rungs)] * rungs, rel=1e-8)


def test_a_longer_ladder_contains_exactly_the_numbers_of_a_shorter_one() -> None:
    short = ladder(0.25, 8.0, math.sqrt(2))
    assert len(short) == 11
    assert set(short) < set(ladder(0.25, 128.0, math.sqrt(2)))
    assert set(short) < set(ladder(2.0**-10, 2.0**20, 1.4142))


def test_a_ladder_of_sizes_is_rounded_without_repeats() -> None:
    assert parse(WholeNumbers, {"from": 1, "to": 8, "factor": math.sqrt(2)}) == (1, 2, 3, 4, 6, 8)


def test_a_list_is_sorted_without_repeats() -> None:
    assert parse(PositiveNumbers, [2, 0.5, 2.0]) == (0.5, 2.0)
    assert parse(Fractions, [0.9, 0]) == (0.0, 0.9)
    assert parse(NonNegativeNumbers, [0]) == (0.0,)
    assert parse(Fractions, [0.5, 0.0]) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        (PositiveNumbers, []),
        (PositiveNumbers, 0.5),
        (PositiveNumbers, "1e-3"),
        (PositiveNumbers, ["1e-3"]),
        (PositiveNumbers, [-1.0]),
        (PositiveNumbers, [0]),
        (PositiveNumbers, [math.nan]),
        (PositiveNumbers, [math.inf]),
        (PositiveNumbers, [True]),
        (PositiveNumbers, [10**400]),
        (PositiveNumbers, [[1.0]]),
        (PositiveNumbers, {"from": 1.0, "to": 2.0}),
        (PositiveNumbers, {"from": 1.0, "to": 2.0, "factor": 2.0, "more": 1.0}),
        (PositiveNumbers, {"from": 2.0, "to": 1.0, "factor": 2.0}),
        (PositiveNumbers, {"from": 1.0, "to": 2.0, "factor": 1.0}),
        (PositiveNumbers, {"from": 0.0, "to": 2.0, "factor": 2.0}),
        (PositiveNumbers, {"from": 1.0, "to": 2.0, "factor": "2"}),
        (PositiveNumbers, {"from": 1e-300, "to": 1e300, "factor": 1.0000001}),
        (WholeNumbers, [1.5]),
        (WholeNumbers, [2.0]),
        (WholeNumbers, [0]),
        (WholeNumbers, [False]),
        (Fractions, [1.0]),
        (Fractions, [-0.1]),
        (Fractions, {"from": 0.1, "to": 0.9, "factor": 3.0}),
        (NonNegativeNumbers, [-1e-9]),
        (Fractions, [1.0]),
    ],
)
def test_a_value_that_is_not_an_axis_is_refused(axis: Any, value: Any) -> None:
    with pytest.raises(ValidationError, match="from|a non-empty list|at most 1000"):
        parse(axis, value)


def test_a_ladder_with_extreme_ends_does_not_overflow() -> None:
    assert ladder(1e-300, 1e300, 1e100) == (1e-300, 1e-200, 1e-100, 1.0, 1e100, 1e200, 1e300)
