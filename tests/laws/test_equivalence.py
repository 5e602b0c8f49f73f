from __future__ import annotations

import json

import numpy as np
import pytest

from noisescale.errors import BadInput
from noisescale.estimate import as_json
from noisescale.laws.equivalence import equivalence


def draw(mean: float, deviation: float, seed: int, count: int = 10) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(count)
    return mean + deviation * (values - values.mean())


@pytest.mark.parametrize(
    ("difference", "control", "deviation", "result"),
    [
        (0.001, 0.05, 0.003, "equivalent"),
        (0.03, 0.05, 0.003, "different"),
        (0.011, 0.05, 0.010, "inconclusive"),
        (0.0, 0.0, 0.003, "inconclusive"),
        (0.001, 0.01, 0.001, "equivalent"),
    ],
)
def test_every_result_of_the_test(difference: float, control: float, deviation: float, result: str) -> None:
    test = equivalence(draw(difference, deviation, 0), draw(control, deviation, 1))
    assert test.result == result
    json.dumps(as_json(test), allow_nan=False)


def test_the_margin_is_the_larger_of_the_fixed_margin_and_a_share_of_the_control() -> None:
    assert equivalence(draw(0, 0.001, 0), draw(0.04, 0.001, 1)).margin == pytest.approx(0.01)
    assert equivalence(draw(0, 0.001, 0), draw(0.01, 0.001, 1)).margin == pytest.approx(0.005)


def test_the_signs_of_difference_and_control_do_not_matter() -> None:
    d, c = draw(0.02, 0.004, 0), draw(0.05, 0.004, 1)
    assert equivalence(d, c).contrast == equivalence(-d, -c).contrast


@pytest.mark.parametrize("shape", [2, 0])
def test_too_few_seeds_are_refused(shape: int) -> None:
    with pytest.raises(BadInput, match="equivalence"):
        equivalence(np.zeros(shape), np.zeros(shape))


def test_a_difference_at_the_margin_is_rarely_equivalent() -> None:
    generator = np.random.default_rng(2)
    draws = 400
    wrongly_equivalent = sum(
        equivalence(0.0125 + 0.006 * generator.standard_normal(10), 0.05 + 0.006 * generator.standard_normal(10)).result
        == "equivalent"
        for _ in range(draws)
    )
    # Nominal 5 %; three standard errors of 400 draws.
    assert wrongly_equivalent / draws <= 0.085


def test_values_without_a_spread_are_inconclusive() -> None:
    varied, equal = draw(0.05, 0.003, 1), np.zeros(10)
    for difference, control, name in ((equal, varied / 10, "difference"), (varied, equal + 0.05, "control")):
        test = equivalence(difference, control)
        assert test.result == "inconclusive" and f"the {name} is equal in all 10 seeds" in test.reason
    # A control that varies gives its spread to the margin.
    assert equivalence(equal, varied).result == "equivalent"
