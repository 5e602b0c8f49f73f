"""The mean over seeds, with its interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import CONFIDENCE, Estimate, two_sided


def mean_over_seeds(
    values: NDArray[np.float64], unit: str, convention: str, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the mean with its Student t interval, mean ± t·s/√n.

    Args:
        values: One value per seed, shape [seeds].
        unit: Unit of the values.
        convention: Definition of a value.
        confidence: Level of the interval.

    Returns:
        The estimate, with an infinite interval for a single value, and NaN for no value. Its convention ends with "mean
        over seeds".
    """
    mean = float(values.mean()) if values.size else math.nan
    error = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan
    half_width = two_sided(values.size - 1, confidence) * error
    low, high = (mean - half_width, mean + half_width) if math.isfinite(half_width) else (-math.inf, math.inf)
    return Estimate(mean, low, high, unit, f"{convention}, mean over seeds", error)
