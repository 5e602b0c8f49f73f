from __future__ import annotations

import math

import pytest

from noisescale.estimate import Estimate
from noisescale.report.numbers import batch_size, number, percent, seconds, with_interval


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, "1", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.03124, "0.0312"), (4.25, "4.25"), (63.94, "63.9"), (999.7, "1,000"), (4184.0, "4,180"), (0.0, "0"),
     (-0.5, "-0.500"), (math.nan, "–"), (math.inf, "–"), (2.5e-7, "2.50e-07")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "censored", "text"),
    [
        (estimate(2, 1, 3), 0, "2.00 [1.00, 3.00]"),
        (estimate(2, -math.inf, 3), 0, "2.00 [<, 3.00]"),
        (estimate(2, 1, math.inf), 0, "2.00 [1.00, >]"),
        (estimate(2, -math.inf, 3), -1, "≤ 2.00 [<, 3.00]"),
        (estimate(2, 1, math.inf), 1, "≥ 2.00 [1.00, >]"),
        (estimate(2, math.nan, math.nan), 0, "2.00"),
        (estimate(math.nan, math.nan, math.nan), 0, "–"),
        (estimate(1.2041, 1.2038, 1.2044), 0, "1.204 [1.204, 1.204]"),
    ],
)
def test_open_ends_have_signs(value: Estimate, censored: int, text: str) -> None:
    assert with_interval(value, censored=censored) == text


def test_batch_sizes_from_ten_on_are_whole_numbers() -> None:
    assert batch_size(estimate(94.3, 9.31, math.inf)) == "94 [9.3, >]"


def test_percent_and_seconds() -> None:
    assert percent(estimate(0.6394, 0.631, 0.647)) == "63.9 % [63.1, 64.7]"
    assert [seconds(value) for value in (0.42, 59, 200, 7500)] == ["0.4 s", "59 s", "3 min 20 s", "2 h 5 min"]
