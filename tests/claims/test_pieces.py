"""Parts of experiments on data with known answers: unbiased squares, largest factors, gains below an optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from noisescale.claims import joint_outcome
from noisescale.claims.equivalence_tests import equivalent_curves, equivalent_means, mean_squares, worst_level
from noisescale.claims.experiments import more_noise, rescaling
from noisescale.claims.experiments.best_rates import break_of_proportionality
from noisescale.claims.sweep_runs import slopes, surviving_share
from noisescale.estimate import Estimate


def test_noise_does_not_inflate_mean_squares() -> None:
    generator = np.random.default_rng(0)
    truth = np.array([0.01, -0.02, 0.0, 0.005])
    squares = [mean_squares(truth + 0.02 * generator.standard_normal((8, 4))).mean() for _ in range(600)]
    # The plain square of the means would be 5e-5 too large, a third of the truth.
    assert np.mean(squares) == pytest.approx(np.mean(truth**2), abs=8e-6)


@pytest.mark.parametrize(("size", "outcome"), [(0.002, "supported"), (0.02, "contradicted")])
def test_curves_are_judged_beside_the_control(size: float, outcome: str) -> None:
    generator = np.random.default_rng(1)
    signs = np.array([1.0, -1.0, 1.0, -1.0])  # opposite signs must not cancel
    differences = size * signs + 0.004 * generator.standard_normal((20, 4))
    controls = 0.03 + 0.004 * generator.standard_normal((20, 4))
    assert joint_outcome(equivalent_curves("pair", differences, controls)) == outcome
    nothing = 0.004 * generator.standard_normal((20, 4))
    assert joint_outcome(equivalent_curves("pair", differences, nothing)) != "supported"


def outcome_at_five_levels(differences: np.ndarray, control: np.ndarray) -> str:
    return joint_outcome(worst_level(equivalent_means("change", list("abcde"), differences, control)))


def test_other_levels_do_not_compensate_for_a_level_that_fails() -> None:
    """At one of five levels, the settings differ by 0.9 points. The margin is ½ point.

    A mean square over all levels would support agreement in 81 of 100 draws. For a difference exactly on the margin,
    2.5% of draws are expected to support it, and 8% of 200 draws are allowed.
    """
    generator = np.random.default_rng(5)
    nothing, beyond, on_margin = np.zeros(5), np.array([0, 0, 0, 0.009, 0]), np.array([0, 0, 0, 0.005, 0])
    outcomes = {
        name: [
            outcome_at_five_levels(truth + 0.004 * generator.standard_normal((28, 5)),
                                   0.015 + 0.004 * generator.standard_normal(28))
            for _ in range(200)
        ]
        for name, truth in (("nothing", nothing), ("beyond", beyond), ("on margin", on_margin))
    }  # fmt: skip
    assert outcomes["nothing"].count("supported") >= 190
    assert outcomes["beyond"].count("supported") == 0 and outcomes["beyond"].count("contradicted") >= 190
    assert outcomes["on margin"].count("supported") <= 16


def test_levels_that_agree_prove_nothing_if_the_control_agrees_too() -> None:
    generator = np.random.default_rng(6)
    differences, control = 0.002 * generator.standard_normal((28, 5)), 0.002 * generator.standard_normal(28)
    assert outcome_at_five_levels(differences, control - control.mean()) == "inconclusive"


def test_a_share_survives_only_of_a_detected_effect() -> None:
    whole, remaining, lost = (
        Estimate(value, value - 0.01, value + 0.01, "fraction", "") for value in (0.04, 0.03, 0.005)
    )
    assert surviving_share("of it", whole, remaining) == {"share of it": pytest.approx(0.75)}
    squares = [Estimate(estimate.value**2, 1e-5, 1.0, "1", "") for estimate in (whole, remaining)]
    assert surviving_share("of it", *squares, power=0.5) == {"share of it": pytest.approx(0.75)}
    (name,) = surviving_share("of it", lost, remaining)
    assert name.startswith("no effect is detected")


def test_the_largest_factor_is_interpolated_in_log_beta() -> None:
    loss = np.zeros((2, len(rescaling._FACTORS)))
    loss[0, rescaling._FACTORS.index(16) :] = -2.0  # crosses the margin half way between 12 and 16
    factors = rescaling.largest_factors(loss, np.array([1.0, 1.0]))
    assert factors[0] == pytest.approx(np.sqrt(12 * 16))
    assert np.isnan(factors[1])  # the loss never crosses the margin


def test_the_break_of_a_line_that_becomes_flat() -> None:
    x = np.log(np.array([4.0, 8, 16, 32, 64, 128]))
    assert break_of_proportionality(x, np.minimum(x, x[3]) + 1.0) == 3
    assert break_of_proportionality(x, x) == 5


def test_equal_values_have_no_slope() -> None:
    x = np.log2([3.0, 5.0, 7.0])  # the distances from their mean do not add up to 0 in floating point
    assert np.array_equal(slopes(x, np.full((4, 3), 0.1)), np.zeros(4))


def test_the_gain_uses_only_cells_below_the_optimum() -> None:
    batches = np.array([4, 8, 16, 32])
    rows = [
        {"learning_rate": rate, "batch_size": batch, "seed": seed, "accuracy": 0.5 - 0.02 * abs(np.log2(batch / 8))}
        for rate in (1.0, 2.0)
        for batch in batches
        for seed in range(4)
    ]
    # From B = 32 down to the best batch, B = 8, each doubling of the noise gains two points. B = 4 does not count.
    assert more_noise._gain_below_optimum(pd.DataFrame(rows)) == pytest.approx(np.full(4, 0.02))
