from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from noisescale.errors import BadInput
from noisescale.laws.optimum_laws import optimum_law
from noisescale.laws.place_laws import PlaceDensity
from noisescale.laws.power_laws import power_law

WIDTHS = np.array([8.0, 16, 32, 64, 128, 256])


def test_an_exact_power_law_is_recovered_and_predicted() -> None:
    law = power_law(WIDTHS, np.log(3 * WIDTHS**0.75), np.full(6, 0.01), degrees=9)
    assert law.status == "ok" and law.method == "least_squares"
    assert law.slope.value == pytest.approx(0.75)
    assert law.at(512).value == pytest.approx(3 * 512**0.75)
    assert law.lack_of_fit == 0
    # Only the floor of 0.02 on the standard errors contributes to the interval.
    half_width = stats.t.ppf(0.975, 6 * 9) * 0.02 / math.sqrt(np.sum((np.log(WIDTHS) - np.log(WIDTHS).mean()) ** 2))
    assert law.slope.high - law.slope.value == pytest.approx(half_width, rel=0.1)


def test_scatter_about_the_line_widens_the_interval() -> None:
    noise = 0.3 * np.array([1.0, -1, 1, -1, 1, -1])
    law = power_law(WIDTHS, np.log(WIDTHS) + noise, np.full(6, 0.02), degrees=9)
    fitted = stats.linregress(np.log(WIDTHS), np.log(WIDTHS) + noise)
    assert law.slope.high - law.slope.value == pytest.approx(stats.t.ppf(0.975, 4) * fitted.stderr)
    assert law.lack_of_fit == pytest.approx(0.37, abs=0.05)


def test_only_scatter_beyond_the_noise_of_the_seeds_is_lack_of_fit() -> None:
    pattern = 0.1 * np.array([1.0, -1, 1, -1, 1, -1])

    def lasting(error: float, kinds: list[int] | None = None) -> tuple[float, float]:
        censored = None if kinds is None else np.array(kinds)
        law = power_law(WIDTHS, np.log(WIDTHS) + pattern, np.full(6, error), degrees=9, censored=censored)
        return law.slope_lack_of_fit(), (law.slope.high - law.slope.value)

    assert lasting(0.1)[0] == 0 == lasting(0.08)[0]
    part, half_width = lasting(0.03)
    total = half_width / stats.t.ppf(0.975, 4)
    # τ² + 0.03² is the residual variance, and with equal errors τ has this share of the error of the slope.
    residual = np.sum((pattern - np.polyval(np.polyfit(np.log(WIDTHS), pattern, 1), np.log(WIDTHS))) ** 2) / 4
    assert part / total == pytest.approx(math.sqrt(1 - 0.03**2 / residual), rel=1e-6)
    assert 0 < lasting(0.02, [-1, 0, 0, 0, 0, 0])[0] < lasting(0.02, [-1, 0, 0, 0, 0, 0])[1]
    assert math.isnan(power_law(WIDTHS[:1], np.zeros(1), np.full(1, 0.1), degrees=9).slope_lack_of_fit())


def test_a_prediction_is_wider_than_the_line_and_widens_with_distance() -> None:
    noise = 0.1 * np.array([1.0, -1, 1, -1, 1, -1])
    law = power_law(WIDTHS, np.log(WIDTHS) + noise, np.full(6, 0.05), degrees=9)
    assert law.at(64).high < law.at(64, new=True).high * 1.0001
    assert law.at(512, new=False).high < law.at(512).high
    assert law.at(1024).high / law.at(1024).value > law.at(512).high / law.at(512).value


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_than_four_widths_are_inconclusive(count: int) -> None:
    law = power_law(WIDTHS[:count], np.log(WIDTHS[:count]), np.full(count, 0.1), degrees=9)
    assert law.status == "inconclusive"
    assert law.fitted == (count >= 2)
    assert math.isfinite(law.at(512).value) == law.fitted


def test_a_law_over_another_axis_names_it() -> None:
    rates = np.array([1.0, 2.0, 4.0])
    law = power_law(rates, np.log(rates), np.full(3, 0.1), degrees=9, quantity="best batch", axis="rate")
    assert "4 rates" in law.advice and "add rates" in law.advice and "width" not in law.advice
    assert law.slope.convention == "exponent of rate in best batch"


def test_a_poorly_determined_width_hardly_counts() -> None:
    logs = np.log(WIDTHS)
    errors = np.array([1.5, 0.03, 0.03, 0.03, 0.03, 0.03])
    with_outlier = logs + np.array([2.0, 0, 0, 0, 0, 0])
    law = power_law(WIDTHS, with_outlier, errors, degrees=9)
    assert law.slope.value == pytest.approx(1, abs=0.02)
    assert law.slope.high - law.slope.low < 0.1
    assert power_law(WIDTHS[:4], with_outlier[:4], errors[:4], degrees=9).status == "inconclusive"


def test_the_slope_is_covered_with_unequal_errors() -> None:
    generator = np.random.default_rng(3)
    errors, covered, draws = np.array([0.6, 0.2, 0.08, 0.06, 0.04, 0.02]), 0, 400
    for _ in range(draws):
        value = np.log(WIDTHS) + 0.1 * generator.standard_normal(6) + errors * generator.standard_normal(6)
        estimated = errors * np.sqrt(generator.chisquare(9, 6) / 9)
        covered += power_law(WIDTHS, value, estimated, degrees=9).slope.covers(1)
    assert covered / draws >= 0.91


def test_censored_widths_enter_as_inequalities() -> None:
    logs = np.log(WIDTHS)
    bounds = logs.copy()
    bounds[0] += 0.5  # the lowest value of the narrowest width's ladder lies above its optimum
    kind = np.array([-1, 0, 0, 0, 0, 0])
    law = power_law(WIDTHS, bounds, np.full(6, 0.05), degrees=9, censored=kind)
    assert law.method == "tobit" and law.censored == (8.0,)
    assert law.slope.covers(1) and law.slope.value == pytest.approx(1, abs=0.02)
    as_point = power_law(WIDTHS, bounds, np.full(6, 0.05), degrees=9)
    assert as_point.slope.value < 0.92
    assert law.at(512).low < 512 < law.at(512).high


def test_a_remote_bound_does_not_change_the_slope() -> None:
    logs = np.log(WIDTHS[1:]) + 0.1 * np.array([1, -1, 1, -1, 1])
    law = power_law(WIDTHS[1:], logs, np.full(5, 0.05), degrees=9)
    kind = np.array([-1, 0, 0, 0, 0, 0])
    with_remote_bound = power_law(WIDTHS, np.concatenate([[20.0], logs]), np.full(6, 0.05), degrees=9, censored=kind)
    assert with_remote_bound.slope.value == pytest.approx(law.slope.value, abs=1e-3)


def test_unusable_input_is_refused() -> None:
    with pytest.raises(BadInput, match="law of optimum"):
        power_law(WIDTHS, np.zeros(5), np.zeros(6), degrees=9)
    with pytest.raises(BadInput, match="finite"):
        power_law(WIDTHS, np.full(6, math.nan), np.ones(6), degrees=9)


def coverage(lack_of_fit: float, draws: int, cut: float = -math.inf) -> tuple[float, float]:
    """Return the coverage of the slope and of the prediction at width 512."""
    generator = np.random.default_rng(0)
    logs, seeds = np.log(np.append(WIDTHS, 512)), 8
    slope_covered = new_covered = 0
    for _ in range(draws):
        truth = logs + lack_of_fit * generator.standard_normal(7)
        by_seed = truth[:-1] + 0.3 * generator.standard_normal((seeds, 6))
        value, error = by_seed.mean(axis=0), by_seed.std(axis=0, ddof=1) / math.sqrt(seeds)
        kind = np.where(value < cut, -1, 0)
        law = power_law(WIDTHS, np.maximum(value, cut), error, degrees=seeds - 1, censored=kind)
        slope_covered += law.slope.covers(1)
        new_covered += law.at(512).covers(math.exp(truth[-1]))
    return slope_covered / draws, new_covered / draws


@pytest.mark.parametrize("lack_of_fit", [0.0, 0.1, 0.4])
def test_slope_and_prediction_are_covered(lack_of_fit: float) -> None:
    slope, prediction = coverage(lack_of_fit, draws=400)
    assert slope >= 0.92 and prediction >= 0.92


@pytest.mark.short
def test_slope_and_prediction_are_covered_with_censored_widths() -> None:
    slope, prediction = coverage(0.2, draws=40, cut=math.log(24))
    assert slope >= 0.85 and prediction >= 0.85


@pytest.mark.full
@pytest.mark.parametrize("lack_of_fit", [0.0, 0.2, 0.4])
def test_the_slope_is_covered_with_censored_widths_over_many_draws(lack_of_fit: float) -> None:
    slope, prediction = coverage(lack_of_fit, draws=500, cut=math.log(24))
    assert slope >= 0.92 and prediction >= 0.90


def test_a_law_that_saturates_is_said_to_bend() -> None:
    widths = np.array([16, 23, 32, 45, 64, 91, 128, 181], dtype=np.float64)
    places = np.log(500.0) - np.log1p((60 / widths) ** 3)
    bent, straight = (
        optimum_law(
            widths.tolist(),
            [normal_density(value, 0.02) for value in values],
            bounds=[0] * widths.size,
            degrees=[9.0] * widths.size,
            quantity="optimum",
            unit="1",
            convention="",
        )
        for values in (places, np.log(widths))
    )
    assert bent.bends and not straight.bends
    assert bent.exponent_at(16).low > bent.exponent_at(181).high
    assert straight.exponent_at(16).value == pytest.approx(1, abs=0.1)


def normal_density(mean: float, error: float) -> PlaceDensity:
    z = np.linspace(-5, 5, 101)
    density = np.exp(-0.5 * z**2)
    return PlaceDensity(mean + error * z, density / density.sum(), open_low=False, open_high=False)
