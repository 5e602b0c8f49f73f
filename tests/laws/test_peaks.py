from __future__ import annotations

import math

import numpy as np

from noisescale.laws.cell_means import cell_means
from noisescale.laws.peaks import separated_peaks

X = np.log([1.0, 2, 3, 4, 6, 8, 11, 16, 23, 32])
MEAN = np.array([0.0, 1, 2, 1, 0, 1, 2.01, 1, 0, -1])
ROUGH = np.random.default_rng(0).standard_normal((8, X.size))


def test_two_peaks_need_a_significant_valley_and_close_heights() -> None:
    peaks, rivals = separated_peaks(cell_means(X, MEAN + 0.005 * ROUGH, 10.0))
    assert rivals == "two_peaks"
    assert peaks[0].low == X[4] and peaks[1].high == X[4]
    assert separated_peaks(cell_means(X, MEAN + 0.3 * ROUGH, 10.0))[1] == "unresolved"
    assert separated_peaks(cell_means(X, MEAN + 20 * ROUGH, 10.0))[1] == ""


def test_a_significantly_lower_peak_is_left_out() -> None:
    mean = MEAN.copy()
    mean[2] = 1.5
    peaks, rivals = separated_peaks(cell_means(X, mean + 0.005 * ROUGH, 10.0))
    assert rivals == "" and len(peaks) == 1 and peaks[0].low == X[4]


def test_peaks_closer_than_an_octave_merge() -> None:
    x = np.arange(10) * math.log(2) / 4
    mean = np.array([0.0, 1, 2, 1, 2.1, 1, 0, -1, -2, -3])
    y = np.tile(mean, (8, 1)) + 0.01 * np.random.default_rng(1).standard_normal((8, 10))
    assert len(separated_peaks(cell_means(x, y, 20.0))[0]) == 1
