"""Claims that compare heights of peaks: equal peaks of unequal sharpness seldom support them, and a rise does.

A ladder of few cells shows a sharp peak lower than it is. The planted peaks are tents with round tips, at any place
between two cells. The slopes and the noise are those of test accuracy on MNIST-1D, in points per nat of noise.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from noisescale.claims import World
from noisescale.claims.experiments.peaks_over_widths import Peaks, lower_at_optimum, peaks_of, rise_over_widths
from noisescale.claims.law_statistics import fit_primary_series
from noisescale.claims.planted import plant
from noisescale.claims.studies.specs import mnist1d_spec
from noisescale.sweeps import SweepSpec

WIDTHS = np.array([32.0, 48, 64, 80, 96, 128])
# Position of each width between the narrowest and the widest, on a logarithmic axis.
SHARE = np.log(WIDTHS / WIDTHS[0]) / math.log(WIDTHS[-1] / WIDTHS[0])
BELOW, ABOVE = 0.045, 0.085
SMALL_STEP = math.log(2) / 2
# Radii of the tips, in nats, and factors of both slopes, for each width.
SHARP, ROUND, MIDDLE = np.full(6, 0.03), np.full(6, 0.4), np.full(6, 0.11)
STEEPER = 2 * 0.25**SHARE
SHARPER = 0.03 * (0.4 / 0.03) ** SHARE


def tent(z: np.ndarray, low: float, high: float, tip: float) -> np.ndarray:
    """Return the drop of a hyperbola below its top at z = 0, with the slopes low and high and the radius tip."""
    middle, half, root = (low + high) / 2, (high - low) / 2, math.sqrt(low * high)
    v = z - half * tip / root
    return np.asarray(middle * np.sqrt(v * v + tip * tip) + half * v - tip * root)


@cache
def flat_spec(batches: tuple[int, ...], seeds: int) -> SweepSpec:
    grid = {"width": [int(width) for width in WIDTHS], "batch_size": list(batches)}
    return mnist1d_spec("equal-peaks", 0, seeds, grid=grid, training={"steps": 50_000})


def measured_peaks(
    generator: np.random.Generator,
    tips: np.ndarray,
    steepness: np.ndarray,
    heights: np.ndarray,
    design: tuple[float, int, float],
) -> Peaks:
    """Plant one peak for each width, measure it with a design (step, seeds, noise of a seed), and fit it."""
    step, seeds, noise = design
    batches = (6, 8, 11, 16, 23, 32, 45, 64, 91) if step == SMALL_STEP else (4, 8, 16, 32, 64, 128)
    planted = plant(flat_spec(batches, seeds), World(curvature=0.0, gain=0.0, noise=noise), generator)
    position = np.log(planted.table.normalized_noise_scale.to_numpy(dtype=np.float64))
    rungs = np.unique(position.round(9))
    shape = np.zeros(len(position))
    for width, tip, factor, height in zip(WIDTHS, tips, steepness, heights, strict=True):
        place = rungs[rungs.size // 2] + step * (generator.random() - 0.5)
        rows = (planted.table.width == width).to_numpy()
        shape[rows] = height - 0.6 - tent(position[rows] - place, BELOW * factor, ABOVE * factor, tip)
    accuracy = planted.table.test_accuracy + shape
    table = planted.table.drop(columns=[name for name in planted.table if "loss" in name])
    table = table.assign(test_accuracy=accuracy, final_test_accuracy=accuracy)
    return peaks_of(fit_primary_series(replace(planted, table=table)))


def any_design(generator: np.random.Generator) -> tuple[float, int, float]:
    """Draw a ladder of factor √2 or 2, 5 to 10 seeds, and a noise of 0.3 to 1.4 points."""
    step = float(generator.choice([SMALL_STEP, 2 * SMALL_STEP]))
    return step, int(generator.integers(5, 11)), float(generator.choice([0.003, 0.007, 0.014]))


def rises(peaks: Peaks) -> bool:
    _, rank, _ = rise_over_widths(peaks)
    return rank.outcome == "supported"


def count_of_rises(name: str, tips: np.ndarray, steepness: np.ndarray, draws: int) -> int:
    generator = np.random.default_rng(list(name.encode()))
    equal = np.full(6, 0.6)
    return sum(rises(measured_peaks(generator, tips, steepness, equal, any_design(generator))) for _ in range(draws))


EQUAL_PEAKS = {
    "sharper where narrow": (SHARPER, np.ones(6)),
    "steeper where narrow": (MIDDLE, STEEPER),
    "both": (SHARPER, STEEPER),
}


def check_equal_peaks(name: str, draws: int) -> None:
    # 2.5 % of the draws would support a rise by chance if the errors were exact; the target is at most 5 %.
    assert count_of_rises(name, *EQUAL_PEAKS[name], draws) <= binom.ppf(0.97, draws, 0.05)


def count_of_lower(draws: int, loss: float = 0.0) -> int:
    generator = np.random.default_rng(9)
    supported = 0
    for _ in range(draws):
        step, seeds, noise = any_design(generator)
        sharp, smooth = (
            measured_peaks(generator, tips, np.ones(6), np.full(6, height), (step, seeds, noise))
            for tips, height in ((SHARP, 0.6 - loss), (ROUND, 0.6))
        )
        widths = sorted(set(sharp.widths) & set(smooth.widths))
        judged = lower_at_optimum(sharp.at(widths, seeds), smooth.at(widths, seeds))
        supported += judged.outcome == "supported"
    return supported


def count_of_rises_like_the_quickstart(draws: int) -> int:
    generator = np.random.default_rng(10)
    heights = 0.577 + (0.682 - 0.577) * SHARE
    design = (SMALL_STEP, 10, 0.007)
    return sum(rises(measured_peaks(generator, MIDDLE, np.ones(6), heights, design)) for _ in range(draws))


def test_the_height_at_a_width_does_not_depend_on_other_widths() -> None:
    planted = plant(flat_spec((6, 8, 11, 16, 23, 32, 45, 64, 91), 6), World(sharpening=1.0), np.random.default_rng(3))
    together = peaks_of(fit_primary_series(planted))
    assert len(together.widths) > 3
    for width, accuracy, error in zip(together.widths, together.accuracy, together.shape_errors, strict=True):
        alone = planted.table[planted.table.width == width]
        (fitted,) = fit_primary_series(replace(planted, table=alone)).widths
        curve = fitted.optima["accuracy"].curve
        assert curve.height_by_seed == tuple(accuracy) and curve.shape_error == error


@pytest.mark.short
def test_equal_peaks_seldom_rise() -> None:
    check_equal_peaks("sharper where narrow", 12)


@pytest.mark.short
def test_equal_peaks_are_seldom_lower() -> None:
    assert count_of_lower(8) <= binom.ppf(0.97, 8, 0.05)


@pytest.mark.full
@pytest.mark.parametrize("name", EQUAL_PEAKS)
def test_equal_peaks_seldom_rise_in_the_long_run(name: str) -> None:
    check_equal_peaks(name, 200)


@pytest.mark.full
def test_equal_peaks_are_seldom_lower_in_the_long_run() -> None:
    assert count_of_lower(200) <= binom.ppf(0.97, 200, 0.05)


@pytest.mark.full
def test_most_rises_like_the_quickstarts_are_supported_in_the_long_run() -> None:
    assert count_of_rises_like_the_quickstart(200) >= 160
