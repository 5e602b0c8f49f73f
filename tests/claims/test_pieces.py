"""The parts of experiments whose truth is known: unbiased squares, breaks, gains below an optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from noisescale.claims import agreement, ladders, rates_and_batches, rescaling, tuned_rates
from noisescale.claims.criterion import joint_outcome
from noisescale.estimate import Estimate


def test_squares_of_differences_are_not_raised_by_noise() -> None:
    generator = np.random.default_rng(0)
    truth = np.array([0.01, -0.02, 0.0, 0.005])
    found = [agreement.mean_squares(truth + 0.02 * generator.standard_normal((8, 4))).mean() for _ in range(600)]
    # The plain square of the means would be 5e-5 too large, a third of the truth.
    assert np.mean(found) == pytest.approx(np.mean(truth**2), abs=8e-6)


@pytest.mark.parametrize(("size", "wanted"), [(0.002, "supported"), (0.02, "contradicted")])
def test_curves_are_judged_beside_the_control(size: float, wanted: str) -> None:
    generator = np.random.default_rng(1)
    signs = np.array([1.0, -1.0, 1.0, -1.0])  # opposite signs must not cancel
    differences = size * signs + 0.004 * generator.standard_normal((20, 4))
    controls = 0.03 + 0.004 * generator.standard_normal((20, 4))
    assert joint_outcome(agreement.curves_alike("pair", differences, controls)) == wanted
    nothing = 0.004 * generator.standard_normal((20, 4))
    assert joint_outcome(agreement.curves_alike("pair", differences, nothing)) != "supported"


def _at_five_levels(differences: np.ndarray, control: np.ndarray) -> str:
    return joint_outcome(agreement.farthest_level(agreement.means_alike("change", list("abcde"), differences, control)))


def test_one_level_that_fails_is_not_made_good_by_the_others() -> None:
    """At one of five levels the settings differ by 0.9 points, the margin being ½: as a mean square over levels this
    was supported in 81 of 100 draws. Exactly on the margin 2.5 % are expected, and 8 % of 200 draws allowed.
    """
    generator = np.random.default_rng(5)
    nothing, beyond, at_it = np.zeros(5), np.array([0, 0, 0, 0.009, 0]), np.array([0, 0, 0, 0.005, 0])
    found = {
        name: [
            _at_five_levels(truth + 0.004 * generator.standard_normal((28, 5)),
                            0.015 + 0.004 * generator.standard_normal(28))
            for _ in range(200)
        ]
        for name, truth in (("nothing", nothing), ("beyond", beyond), ("at it", at_it))
    }  # fmt: skip
    assert found["nothing"].count("supported") >= 190
    assert found["beyond"].count("supported") == 0 and found["beyond"].count("contradicted") >= 190
    assert found["at it"].count("supported") <= 16


def test_levels_that_agree_say_nothing_where_the_control_does_too() -> None:
    generator = np.random.default_rng(6)
    differences, control = 0.002 * generator.standard_normal((28, 5)), 0.002 * generator.standard_normal(28)
    assert _at_five_levels(differences, control - control.mean()) == "inconclusive"


def test_what_survives_is_a_share_of_what_is_detected() -> None:
    whole, left, lost = (Estimate(value, value - 0.01, value + 0.01, "fraction", "") for value in (0.04, 0.03, 0.005))
    assert ladders.survives("here", whole, left) == {"what survives here, as a share": pytest.approx(0.75)}
    squares = [Estimate(own.value**2, 1e-5, 1.0, "1", "") for own in (whole, left)]
    assert ladders.survives("here", *squares, power=0.5) == {"what survives here, as a share": pytest.approx(0.75)}
    (words,) = ladders.survives("here", lost, left)
    assert words.startswith("nothing is detected")


def test_a_break_is_interpolated_in_log_beta() -> None:
    loss = np.zeros((2, len(rescaling._FACTORS)))
    loss[0, rescaling._FACTORS.index(16) :] = -2.0  # leaves between 12 and 16, half way up at the margin
    found = rescaling.largest_factors(loss, np.array([1.0, 1.0]))
    assert found[0] == pytest.approx(np.sqrt(12 * 16))
    assert np.isnan(found[1])  # never: there is no number to draw a line through


def test_the_break_of_a_line_that_becomes_flat() -> None:
    x = np.log(np.array([4.0, 8, 16, 32, 64, 128]))
    assert tuned_rates._break(x, np.minimum(x, x[3]) + 1.0) == 3
    assert tuned_rates._break(x, x) == 5


def test_equal_values_have_no_slope() -> None:
    x = np.log2([3.0, 5.0, 7.0])  # their distances from the mean do not add up to 0 in floating point
    assert np.array_equal(ladders.slopes(x, np.full((4, 3), 0.1)), np.zeros(4))


def test_the_gain_is_that_below_the_optimum() -> None:
    batches = np.array([4, 8, 16, 32])
    rows = [
        {"learning_rate": rate, "batch_size": batch, "seed": seed, "accuracy": 0.5 - 0.02 * abs(np.log2(batch / 8))}
        for rate in (1.0, 2.0)
        for batch in batches
        for seed in range(4)
    ]
    # From B = 32 down to the best, 8, each octave of noise gains two points; B = 4, beyond it, does not count.
    assert rates_and_batches._gain_below_optimum(pd.DataFrame(rows)) == pytest.approx(np.full(4, 0.02))
