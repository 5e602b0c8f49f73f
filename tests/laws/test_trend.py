from __future__ import annotations

import json

import numpy as np
import pytest

from noisescale.errors import BadInput
from noisescale.estimate import as_json
from noisescale.laws.trends import trend

WIDTHS = np.array([16.0, 32, 64, 128])


def noisy(means: list[float], deviation: float = 0.003, seeds: int = 8) -> np.ndarray:
    return np.array(means) + deviation * np.random.default_rng(0).standard_normal((seeds, len(means)))


@pytest.mark.parametrize(
    ("means", "direction"),
    [
        ([0.5, 0.55, 0.6, 0.65], "rising"),
        ([0.65, 0.6, 0.55, 0.5], "falling"),
        ([0.5, 0.6, 0.6, 0.5], "mixed"),
        ([0.5, 0.5, 0.5, 0.5], "flat"),
    ],
)
def test_directions(means: list[float], direction: str) -> None:
    result = trend(WIDTHS, noisy(means))
    assert result.direction == direction
    json.dumps(as_json(result), allow_nan=False)


def test_gain_and_rank_correlation_of_an_exact_line() -> None:
    result = trend(WIDTHS, np.tile([0.5, 0.51, 0.52, 0.53], (5, 1)))
    assert result.gain_per_doubling.value == pytest.approx(0.01)
    assert result.spearman.value == 1 and result.spearman.high == 1
    assert len(result.steps) == 3


def test_isotonic_means_pool_neighbours_that_violate_the_order() -> None:
    result = trend(np.array([8.0, 16, 32, 64, 128]), np.array([1.0, 3, 2, 4, 0]) + np.zeros((3, 1)))
    np.testing.assert_allclose(result.isotonic, [1, 2.25, 2.25, 2.25, 2.25])


def test_gain_and_rank_correlation_are_covered() -> None:
    generator = np.random.default_rng(1)
    means, draws = np.array([0.50, 0.505, 0.51, 0.515]), 400

    def sample(seeds: int) -> np.ndarray:
        return means + 0.006 * generator.standard_normal((seeds, 4))

    truth = trend(WIDTHS, sample(100_000)).spearman.value
    trends = [trend(WIDTHS, sample(10)) for _ in range(draws)]
    assert np.mean([drawn.gain_per_doubling.covers(0.005) for drawn in trends]) >= 0.92
    assert np.mean([drawn.spearman.covers(truth) for drawn in trends]) >= 0.90


def test_unusable_input_is_refused() -> None:
    with pytest.raises(BadInput, match="trend"):
        trend(WIDTHS, np.zeros((2, 4)))
    with pytest.raises(BadInput, match="increasing"):
        trend(WIDTHS[::-1], np.zeros((5, 4)))


def test_errors_that_all_seeds_share_widen_every_interval() -> None:
    values, errors = noisy([0.5, 0.51, 0.52, 0.53]), np.array([0.004, 0.003, 0.002, 0.001])
    alone, shared = trend(WIDTHS, values), trend(WIDTHS, values, shared_errors=errors)
    octaves = np.array([-1.5, -0.5, 0.5, 1.5])
    added = shared.gain_per_doubling.standard_error**2 - alone.gain_per_doubling.standard_error**2
    assert added == pytest.approx(np.sum((octaves / 5 * errors) ** 2))
    assert shared.steps[0].standard_error ** 2 - alone.steps[0].standard_error ** 2 == pytest.approx(25e-6)
    assert shared.means[0].standard_error ** 2 - alone.means[0].standard_error ** 2 == pytest.approx(16e-6)
    assert shared.spearman.low < alone.spearman.low
    assert shared.spearman.value == alone.spearman.value
    with pytest.raises(BadInput, match="shared_errors"):
        trend(WIDTHS, values, shared_errors=errors[:3])


@pytest.mark.parametrize("size", [0.002, 0.02])
def test_shared_errors_of_equal_heights_are_no_trend(size: float) -> None:
    # At 2.5 % a side, 5 % of the draws have a trend; more than 10 of 100 would occur once in a hundred.
    generator = np.random.default_rng(4)
    gains = ranks = 0
    for _ in range(100):
        errors = size * generator.uniform(0.3, 1.0, 6)
        heights = 0.6 + errors * generator.standard_normal(6) + 0.006 * generator.standard_normal((8, 6))
        drawn = trend(np.geomspace(32, 128, 6), heights, shared_errors=errors)
        gains += not drawn.gain_per_doubling.covers(0.0)
        ranks += not drawn.spearman.covers(0.0)
    assert gains <= 10 and ranks <= 10


def test_a_rank_correlation_that_all_seeds_share_has_the_interval_of_a_count() -> None:
    # Two widths rise in all n seeds. By the sign test, five seeds show it at 0.03 and six at 0.016, one-sided.
    lows = [trend(WIDTHS[:2], np.tile([0.5, 0.6], (seeds, 1))).spearman.low for seeds in (5, 6)]
    assert lows[0] == pytest.approx(2 * 0.025 ** (1 / 5) - 1, abs=1e-6)
    assert lows[0] < 0 < lows[1]
