"""The mean over seeds, with its interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import CONFIDENCE, Estimate, two_sided

Array = NDArray[np.float64]

# Values count as equal if they differ by no more than this share of the largest.
_ROUNDING = 1e-12


def mean_over_seeds(
    values: Array, unit: str, convention: str, confidence: float = CONFIDENCE, *, shared_error: float = 0.0
) -> Estimate:
    """Return the mean with its Student t interval, mean ± t·√(s²/n + e²).

    Args:
        values: One value per seed, shape [seeds].
        unit: Unit of the values.
        convention: Definition of a value.
        confidence: Level of the interval.
        shared_error: Standard error e that all seeds share, so that more seeds do not reduce it. It counts as known,
            and the degrees of freedom follow from Satterthwaite's rule.

    Returns:
        The estimate, with an infinite interval for a single value, and NaN for no value. Its convention ends with "mean
        over seeds".

    Source:
        Satterthwaite 1946.
    """
    mean = float(values.mean()) if values.size else math.nan
    error = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan
    total, degrees = with_shared_error(error, values.size - 1.0, shared_error)
    half_width = two_sided(degrees, confidence) * total
    low, high = (mean - half_width, mean + half_width) if math.isfinite(half_width) else (-math.inf, math.inf)
    return Estimate(mean, low, high, unit, f"{convention}, mean over seeds", total)


def with_shared_error(error: float, degrees: float, shared_error: float) -> tuple[float, float]:
    """Add an error that all seeds share to the standard error of a mean over seeds.

    Args:
        error: Standard error of the mean, from the spread of the seeds.
        degrees: Its degrees of freedom.
        shared_error: Standard error that all seeds share. It has infinitely many degrees of freedom.

    Returns:
        The standard error and its degrees of freedom by Satterthwaite's rule.
    """
    if not shared_error:
        return error, degrees
    total = math.hypot(error, shared_error)
    return total, degrees * (total / error) ** 4 if error > 0 else math.inf


def has_no_spread(values: Array) -> bool:
    """Return whether two or more values are equal up to rounding, so that they do not show their error.

    Args:
        values: One value per seed, shape [seeds].
    """
    return values.size > 1 and bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def half_width_without_spread(seeds: int, resolution: float, confidence: float = CONFIDENCE) -> float:
    """Return the half-width of an interval for a mean over seeds whose values are all equal.

    If all of n seeds agree, a further seed differs with a probability of at most 1 - ((1 - confidence)/2)^(1/n). A seed
    that differs does so by at least the resolution.

    Args:
        seeds: Number of seeds n.
        resolution: Step between the possible values of a quantity that is counted.
        confidence: Level of the interval.

    Source:
        Clopper and Pearson 1934.
    """
    largest_share: float = 1 - ((1 - confidence) / 2) ** (1 / seeds)
    return resolution * largest_share
