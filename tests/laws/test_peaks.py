from __future__ import annotations

import math

import numpy as np

from noisescale.laws.peaks import local_quadratic, separated_peaks

X = np.log([1.0, 2, 3, 4, 6, 8, 11, 16, 23, 32])


def test_the_smoother_reproduces_quadratics() -> None:
    y = 3 - 2 * X + 0.5 * X**2
    np.testing.assert_allclose(local_quadratic(X) @ y, y, atol=1e-10)


def test_a_second_peak_needs_a_significant_valley() -> None:
    mean = np.array([0.0, 1, 2, 1, 0, 1, 2.1, 1, 0, -1])
    rough = np.random.default_rng(0).standard_normal((8, X.size))
    smooth = np.tile(mean, (8, 1)) + 0.01 * rough
    peaks = separated_peaks(X, smooth, mean)
    assert [peak.cell for peak in peaks] == [6, 2]
    assert peaks[0].first == 4 and peaks[1].last == 4
    assert len(separated_peaks(X, mean + 20 * rough, mean)) == 1


def test_peaks_closer_than_an_octave_merge() -> None:
    x = np.arange(10) * math.log(2) / 4
    mean = np.array([0.0, 1, 2, 1, 2.1, 1, 0, -1, -2, -3])
    y = np.tile(mean, (8, 1)) + 0.01 * np.random.default_rng(1).standard_normal((8, 10))
    assert len(separated_peaks(x, y, mean)) == 1
