"""The height of the optimum at a width: how good the metric gets there, with the best setting.

At a trained width the curve gives the height. At another width a law of the heights does: h = a + b·l + c·l² + scatter,
where l is the centred log of the width. Its unit is a tenth of the metric's span, for which the priors of the laws of
places fit as well: heights change by some tenths of a span over all widths, and bend less than they rise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.laws.optima import Optimum
from noisescale.laws.place_laws import PlaceDensity, place_law

Array = NDArray[np.float64]

_UNITS_PER_SPAN = 10.0
# Points of the normal likelihood of a height, which reaches this many standard errors to each side.
_POINTS, _REACH = 81, 5.0
# Standard errors below this share of the unit do not matter to a law whose smallest scatter is ten times as large.
_SMALLEST_ERROR = 1e-3


@dataclass(frozen=True, eq=False)
class Height:
    """The height of the optimum at a width, for a metric to maximize.

    Args:
        draws: Draws of the mean over seeds, shape [draws].
        deviation: Standard deviation of one seed's metric about that mean.
    """

    draws: Array
    deviation: float


def measured_height(optimum: Optimum, sign: float, count: int, generator: np.random.Generator) -> Height:
    """Return the height of a trained width.

    Args:
        optimum: Optimum of the width.
        sign: 1 for a metric to maximize, -1 for one to minimize.
        count: Number of draws.
        generator: Random generator.
    """
    noise = generator.standard_normal(count)
    return Height(sign * optimum.height.value + optimum.height.standard_error * noise, _seed_deviation(optimum))


def predicted_height(
    optima: Mapping[float, Optimum], width: float, sign: float, count: int, generator: np.random.Generator
) -> Height:
    """Return the height that the trained widths predict for another width.

    Args:
        optima: Optimum of each width whose height is known; at least one.
        width: Width of the network.
        sign: 1 for a metric to maximize, -1 for one to minimize.
        count: Number of draws.
        generator: Random generator.
    """
    widths = sorted(optima)
    unit = float(np.median([optima[w].span for w in widths])) / _UNITS_PER_SPAN
    values = np.array([sign * optima[w].height.value for w in widths]) / unit
    errors = np.array([optima[w].height.standard_error for w in widths]) / unit
    level = float(values.mean())
    densities = [
        _normal(value - level, max(error, _SMALLEST_ERROR)) for value, error in zip(values, errors, strict=True)
    ]
    law = place_law({"width": np.log(widths)}, densities)
    rows = generator.choice(law.weights.size, count, p=law.weights)
    draws = law.draws({"width": math.log(width)}, rows, generator)
    nearest = min(widths, key=lambda trained: abs(math.log(trained / width)))
    return Height((level + draws) * unit, _seed_deviation(optima[nearest]))


def _normal(mean: float, error: float) -> PlaceDensity:
    z = np.linspace(-_REACH, _REACH, _POINTS)
    density = np.exp(-0.5 * z**2)
    return PlaceDensity(mean + error * z, density / density.sum(), open_low=False, open_high=False)


def _seed_deviation(optimum: Optimum) -> float:
    return float(np.std(optimum.height_by_seed, ddof=1)) if len(optimum.height_by_seed) > 1 else 0.0
