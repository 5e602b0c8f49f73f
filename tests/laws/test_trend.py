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
