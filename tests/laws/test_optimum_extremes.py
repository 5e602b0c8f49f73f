"""The optimum of metrics with absurd values, extreme scales, no noise or few surviving runs.

Every case has an answer with intervals of positive width and no warning (warnings are errors).
Tolerances of heights are a few standard errors of the mean of five seeds, plus the error from the shape.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from noisescale.laws.optima import Optimum
from noisescale.laws.optimum import optimum

SEEDS, CELLS, TRUTH = 5, 11, 1.83
X = np.arange(CELLS) * math.log(math.sqrt(2))
PLAIN = 0.6 - 0.1 * np.abs(X - TRUTH) + 0.003 * np.random.default_rng(0).standard_normal((SEEDS, CELLS))
NONE_FAILED = np.zeros((SEEDS, CELLS), dtype=bool)


def check(result: Optimum) -> None:
    assert math.isfinite(result.place.value)
    assert result.place.high > result.place.low
    assert math.isfinite(result.height.value)
    assert result.height.high > result.height.low
    assert all(math.isfinite(value) for value in result.height_by_seed)
    assert result.span > 0


def blown_up(first: int, size: float) -> np.ndarray:
    y = PLAIN.copy()
    y[:, first:] = -size * np.exp(np.random.default_rng(1).standard_normal((SEEDS, CELLS - first)))
    return y


@pytest.mark.parametrize("constant", [math.nan, 0.1])
@pytest.mark.parametrize("size", [1e3, 1e30, 1e300])
@pytest.mark.parametrize("first", [8, 7])
def test_cells_that_blow_up_do_not_move_the_optimum(constant: float, size: float, first: int) -> None:
    result = optimum(X, blown_up(first, size), constant=constant)
    check(result)
    assert result.label == "interior"
    assert result.place.low < TRUTH < result.place.high
    assert result.place.high - result.place.low < 1.0
    assert result.height.value == pytest.approx(0.6, abs=0.02)


def test_an_optimum_is_found_where_most_cells_have_blown_up() -> None:
    # The metric still rises in cell 5, and the cells from 6 on have blown up: the best cell is cell 5.
    result = optimum(X, blown_up(6, 1e30))
    check(result)
    assert X[4] < result.place.low < result.place.high < X[6] + 1e-9
    assert result.span < 0.5


def test_a_run_that_blows_up_in_the_best_cell_does_not_count() -> None:
    y = PLAIN.copy()
    y[0, 5] = -1e30
    result = optimum(X, y, constant=0.1)
    check(result)
    assert result.place.low < TRUTH < result.place.high
    assert result.height.value == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e100, 1e300])
@pytest.mark.parametrize("maximize", [True, False])
def test_the_place_does_not_depend_on_the_unit(scale: float, maximize: bool) -> None:
    plain, scaled = optimum(X, PLAIN), optimum(X, PLAIN * (scale if maximize else -scale), maximize=maximize)
    check(scaled)
    assert scaled.place.interval == pytest.approx(plain.place.interval, abs=1e-6)
    height = scaled.height.value if maximize else -scaled.height.value
    assert height / scale == pytest.approx(plain.height.value, rel=1e-6)


@pytest.mark.parametrize("constant", [math.nan, 0.1, 0.6])
@pytest.mark.parametrize("value", [0.0, 0.6, 1e6 / 3, 1e-100])
def test_a_constant_metric_is_flat(constant: float, value: float) -> None:
    result = optimum(X, np.full((SEEDS, CELLS), value), constant=constant)
    check(result)
    assert result.label == "flat"
    assert result.height.low <= value <= result.height.high


@pytest.mark.parametrize("constant", [math.nan, 0.1])
def test_equal_cells_with_different_seeds_are_flat(constant: float) -> None:
    by_seed = 0.6 + 0.01 * np.random.default_rng(2).standard_normal((SEEDS, 1))
    result = optimum(X, np.repeat(by_seed, CELLS, axis=1), constant=constant)
    check(result)
    assert result.label == "flat"
    assert result.height.value == pytest.approx(float(by_seed.mean()), abs=0.003)


@pytest.mark.parametrize("constant", [math.nan, 0.1])
def test_a_flat_metric_has_the_height_of_its_cells(constant: float) -> None:
    # Curves whose optimum lies beyond the ladder would be far higher there.
    y = 0.6 + 0.01 * np.random.default_rng(3).standard_normal((SEEDS, CELLS))
    result = optimum(X, y, constant=constant)
    check(result)
    assert result.height.low < 0.6 < result.height.high
    assert result.height.high - result.height.low < 0.03


@pytest.mark.parametrize("curve", [0.6 - 0.1 * np.abs(X - TRUTH), 0.6 - 0.1 * X, np.round(0.6 - 0.1 * X, 1)])
@pytest.mark.parametrize("constant", [math.nan, 0.1])
def test_a_metric_without_noise_has_intervals(curve: np.ndarray, constant: float) -> None:
    result = optimum(X, np.repeat(curve[None], SEEDS, axis=0), constant=constant)
    check(result)
    assert result.place.low - 0.4 < X[np.argmax(curve)] < result.place.high + 0.4


def survivors(name: str) -> np.ndarray:
    alive = np.ones((SEEDS, CELLS), dtype=bool)
    if name == "one in the best cell":
        alive[1:, 5] = False
    elif name == "one seed":
        alive[1:] = False
    elif name == "all seeds but one":
        alive[0] = False
    elif name == "every second cell":
        alive[:, ::2] = False
    return alive


@pytest.mark.parametrize("constant", [math.nan, 0.1])
@pytest.mark.parametrize("name", ["one in the best cell", "one seed", "all seeds but one", "every second cell"])
def test_few_survivors_have_an_optimum(name: str, constant: float) -> None:
    failed = ~survivors(name)
    result = optimum(X, np.where(failed, 0.1, PLAIN), failed=failed, constant=constant)
    check(result)
    assert result.label == "interior"
    assert result.place.low < TRUTH < result.place.high


def test_failures_count_as_the_constant_predictor_whose_metric_only_they_show() -> None:
    failed = NONE_FAILED.copy()
    failed[0] = True
    y = np.where(failed, 0.1, PLAIN)
    known, inferred = optimum(X, y, failed=failed, constant=0.1), optimum(X, y, failed=failed)
    # A fifth of the runs failed: the expected metric is about 0.5, not 0.6.
    assert known.height.value == pytest.approx(0.5, abs=0.02)
    assert inferred.height.value == pytest.approx(known.height.value, abs=0.01)
