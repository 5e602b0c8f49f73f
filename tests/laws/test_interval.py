from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from noisescale.estimate import Estimate, as_json, from_log, two_sided


def test_infinite_and_missing_ends_become_null() -> None:
    estimate = Estimate(2.0, -math.inf, math.nan, "examples", "B")
    assert as_json(estimate) == {"value": 2.0, "low": None, "high": None, "unit": "examples", "convention": "B"}
    assert not estimate.bounded


def test_an_infinite_end_of_a_logarithm_stays_infinite() -> None:
    estimate = from_log(math.log(3), -math.inf, math.log(5), "1", "")
    assert estimate.value == pytest.approx(3) and estimate.high == pytest.approx(5)
    assert estimate.low == -math.inf
    assert estimate.covers(1e-9) and not estimate.covers(6)


def test_nested_results_become_plain_json() -> None:
    @dataclass(frozen=True)
    class Outer:
        inner: Estimate
        values: tuple[float, ...]
        table: dict[int, np.float64]

    outer = Outer(Estimate(1.0, 0.0, math.inf, "1", ""), (1.0, math.nan), {3: np.float64(2)})
    expected = {"inner": as_json(outer.inner), "values": [1.0, None], "table": {"3": 2.0}}
    assert as_json(outer) == expected
    json.dumps(as_json(outer), allow_nan=False)


@pytest.mark.parametrize("degrees", [1, 4, 9, 100])
def test_two_sided_is_the_quantile_of_student(degrees: int) -> None:
    assert two_sided(degrees) == pytest.approx(stats.t.ppf(0.975, degrees))


def test_no_degrees_of_freedom_give_no_interval() -> None:
    assert two_sided(0) == math.inf
