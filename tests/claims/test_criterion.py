"""Criteria: intervals that support or contradict a claim, and the rate at which planted nulls are supported."""

from __future__ import annotations

import math

import numpy as np
import pytest

from noisescale.claims import (
    Criterion,
    Statistic,
    above,
    below,
    different_from,
    equivalence,
    holm_levels,
    joint_outcome,
    over_seeds,
    within,
)
from noisescale.claims.criterion import below_or_open
from noisescale.claims.statistic import farthest_from
from noisescale.estimate import Estimate, two_sided


def statistic(values: list[float] | np.ndarray, criterion: Criterion) -> Statistic:
    return over_seeds("s", np.asarray(values, dtype=float), "1", "", criterion)


TIGHT = [1.00, 1.01, 0.99, 1.005, 0.995]


@pytest.mark.parametrize(
    ("values", "criterion", "outcome"),
    [
        (TIGHT, within(1, 0.05), "supported"),
        (TIGHT, within(1, 0.005), "inconclusive"),
        (TIGHT, within(2, 0.05), "contradicted"),
        (TIGHT, above(0.9), "supported"),
        (TIGHT, above(1.1), "contradicted"),
        (TIGHT, below(1.1), "supported"),
        (TIGHT, below(1.0), "inconclusive"),
        ([1.0], within(1, 0.5), "inconclusive"),  # one seed has no interval
        ([1.0, math.nan, 1.0], within(1, 0.5), "inconclusive"),
    ],
)
def test_outcomes(values: list[float], criterion: Criterion, outcome: str) -> None:
    judged = statistic(values, criterion)
    assert judged.outcome == outcome
    assert (judged.outcome == "supported") == (judged.p_value <= 0.025)


def test_the_number_of_seeds_that_would_settle_a_claim() -> None:
    wide = statistic([0.8, 1.2, 0.9, 1.1], within(1, 0.1))
    assert wide.outcome == "inconclusive" and 10 < (wide.seeds_needed() or 0) < 40
    assert statistic([1.5, 1.6, 1.4], within(1, 0.1)).seeds_needed() is None
    generator = np.random.default_rng(0)
    more = statistic(1 + 0.183 * generator.standard_normal(2 * (wide.seeds_needed() or 0)), within(1, 0.1))
    assert more.outcome == "supported"


def slope(error_of_seeds: float, scatter: float) -> Statistic:
    """Return a slope of 1.1 over eight widths and 10 seeds, for the region 1 ± 0.5. Its nearest end is 0.4 away."""
    widest = max(two_sided(63.0) * error_of_seeds, two_sided(6.0) * scatter)
    estimate = Estimate(1.1, 1.1 - widest, 1.1 + widest, "1", "")
    return Statistic("s", estimate, ((error_of_seeds, 63.0),), 10, within(1, 0.5), ((scatter, 6.0),))


def test_seeds_settle_a_slope_only_if_their_error_fails_the_test() -> None:
    # Only the error of the seeds fails the test: t = 0.4/0.25 at 10 seeds, and t = 2 at 10·(0.25·2/0.4)² = 16 seeds.
    by_seeds = slope(0.25, 0.1)
    assert by_seeds.outcome == "inconclusive" and 14 <= (by_seeds.seeds_needed() or 0) <= 18
    # The scatter of the widths about the line fails the test: t = 0.4/0.25 with 6 degrees of freedom for any number of
    # seeds.
    by_widths = slope(0.1, 0.25)
    assert by_widths.outcome == "inconclusive" and by_widths.seeds_needed() is None
    # At a stricter level, the scatter of the first slope fails the test too.
    assert by_seeds.seeds_needed(0.001) is None


def test_an_open_criterion_never_contradicts() -> None:
    assert statistic(TIGHT, below_or_open(1.1)).outcome == "supported"
    assert statistic(TIGHT, below_or_open(0.9)).outcome == "inconclusive"
    assert statistic(TIGHT, below_or_open(0.9)).seeds_needed() is None


def test_a_claim_needs_all_of_its_statistics() -> None:
    good, undecided, bad = (
        statistic(TIGHT, within(1, 0.05)), statistic(TIGHT, within(1, 0.005)), statistic(TIGHT, within(2, 0.05))
    )  # fmt: skip
    assert joint_outcome((good, good)) == "supported"
    assert joint_outcome((good, undecided)) == "inconclusive"
    assert joint_outcome((good, undecided, bad)) == "contradicted"
    assert joint_outcome((good,), level=0.0) == "inconclusive"
    assert joint_outcome(()) == "inconclusive"


def test_equivalence_needs_a_control_that_is_detected() -> None:
    generator = np.random.default_rng(2)

    def about(value: float) -> np.ndarray:
        return value + 0.002 * generator.standard_normal(12)

    def outcome(difference: float, control: float) -> str:
        return joint_outcome(equivalence("pair", about(difference), about(control)))

    assert outcome(0.001, 0.05) == "supported" == outcome(-0.001, -0.05)
    assert outcome(0.001, 0.0) == "inconclusive"  # the control is not detected
    assert outcome(0.02, 0.05) == "contradicted"
    # An asymmetric interval is judged by the end that faces the bound.
    skewed = Statistic("s", Estimate(1.0, 0.99, 1.3, "1", ""), (), 11, within(1, 0.1), ((0.1, 3.0),))
    assert skewed.outcome == "inconclusive" and skewed.seeds_needed() is None


def test_a_difference_on_either_side_supports_and_its_absence_does_not_contradict() -> None:
    generator = np.random.default_rng(3)
    draws = [statistic(0.02 * generator.standard_normal(8), different_from(0)) for _ in range(400)]
    outcomes = [joint_outcome((draw,)) for draw in draws]
    assert "contradicted" not in outcomes and outcomes.count("supported") <= 20
    for sign in (1, -1):
        assert joint_outcome((statistic(sign * np.asarray(TIGHT), different_from(0)),)) == "supported"


def test_the_farthest_setting_decides() -> None:
    values = np.array([[1.0, 1.02], [0.9, 0.92], [1.05, 1.03]])
    assert farthest_from(1.0, values).tolist() == [0.9, 0.92]


def test_the_levels_of_holms_procedure() -> None:
    levels = holm_levels({"a": 0.001, "b": 0.02, "c": 0.02, "d": 0.0}, 4)
    assert levels == {"d": 0.025 / 4, "a": 0.025 / 3, "b": 0.0, "c": 0.0}
    assert holm_levels({"only": 0.024}, 1) == {"only": 0.025}
    # A claim that is verified alone is still tested as one of ten, if its paper has ten.
    assert holm_levels({"only": 0.024}, 10) == {"only": 0.0}


@pytest.mark.parametrize("criterion", [within(1, 0.1), above(0.9), below(1.1)])
def test_planted_nulls_at_the_end_of_the_region_are_seldom_supported(criterion: Criterion) -> None:
    """The worst null has its mean at the end of the region. It should be supported in 2.5% of draws; 8% are allowed."""
    end = criterion.high if math.isfinite(criterion.high) else criterion.low
    generator = np.random.default_rng(1)
    draws = [statistic(end + 0.02 * generator.standard_normal(8), criterion).outcome for _ in range(200)]
    assert draws.count("supported") <= 16
    inside = [statistic(1 + 0.02 * generator.standard_normal(8), criterion).outcome for _ in range(200)]
    assert inside.count("supported") >= 190
