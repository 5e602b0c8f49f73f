from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from noisescale.estimate import Estimate, as_json, from_log, two_sided
from noisescale.laws import half_width_without_spread, has_no_spread, mean_over_seeds


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


def test_an_error_that_all_seeds_share_is_added_to_the_error_of_the_mean() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    alone, shared = mean_over_seeds(values, "1", ""), mean_over_seeds(values, "1", "", shared_error=2.0)
    assert alone.standard_error == pytest.approx(values.std(ddof=1) / 2)
    assert shared.standard_error == pytest.approx(math.hypot(alone.standard_error, 2.0))
    degrees = 3 * (shared.standard_error / alone.standard_error) ** 4
    assert shared.high - shared.value == pytest.approx(two_sided(degrees) * shared.standard_error)
    # Without a spread of the seeds only the shared error is left, which is known.
    known = mean_over_seeds(np.ones(4), "1", "", shared_error=2.0)
    assert known.high == pytest.approx(1 + 2 * stats.norm.ppf(0.975))


def test_equal_values_have_no_spread_despite_rounding() -> None:
    assert has_no_spread(np.array([0.1 + 0.2, 0.3])) and has_no_spread(np.zeros(3))
    assert not has_no_spread(np.array([1.0, 1.0 + 1e-9])) and not has_no_spread(np.ones(1))


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_interval_without_a_spread_is_that_of_a_share_of_zero(seeds: int) -> None:
    limit = stats.binomtest(0, seeds).proportion_ci(0.95, "exact").high
    assert half_width_without_spread(seeds, 2.0) == pytest.approx(2 * limit)
