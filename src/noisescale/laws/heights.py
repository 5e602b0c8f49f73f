"""The height of the optimum at a width: how good the metric gets there, with the best setting.

At a trained width the curve gives the height. At another width a law of the heights does:

h = a + b·f(w) + scatter, with f(w) = (1 - (w/w₀)^(-κ))/κ, or log(w/w₀) for κ = 0,

where w₀ is the middle of the trained widths. For κ > 0 the heights approach a limit as a power of the width. For κ < 0
each doubling of the width brings more than the last, as it does below the width at which a network fits its data. A
parabola in log width bends back far from the trained widths, which heights do not do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.laws.nearest import nearest_by_factor
from noisescale.laws.optima import Optimum
from noisescale.laws.place_laws import SCATTERS

Array = NDArray[np.float64]

# A law of heights is computed in tenths of the span: there the scatters of the laws of places fit as well.
_UNITS_PER_SPAN = 10.0
# Powers κ. Errors of networks fall as powers of their size with exponents between 0 and 1 (Hestness et al. 2017). Far
# from their limit they can fall ever faster. Of the losses of a public study, 56, each predicted from narrower widths,
# the intervals of κ from 0 held 82 %, those of these powers 93 %, and the ranked probability score fell by 31 %.
_POWERS = (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0)
# Standard deviation of the level a about the mean of the heights, in tenths of the span.
_LEVEL_SPREAD = 10.0
# Standard deviation of the rise b, in tenths of the span for each nat of width. Of 1, 2, 3 and 5, this one has the best
# score on the same losses.
_RISE_SPREAD = 2.0
# Standard errors below this share of the unit do not matter to a law whose smallest scatter is ten times as large.
_SMALLEST_ERROR = 1e-3


@dataclass(frozen=True, eq=False)
class Height:
    """The height of the optimum at a width, for a metric to maximize.

    Args:
        draws: Draws of the mean over seeds, shape [draws].
        deviation: Standard deviation of one seed's metric about that mean.
        freedom: Degrees of freedom of this deviation.
    """

    draws: Array
    deviation: float
    freedom: float


def measured_height(optimum: Optimum, sign: float, count: int, generator: np.random.Generator) -> Height:
    """Return the height of a trained width.

    Args:
        optimum: Optimum of the width.
        sign: 1 for a metric to maximize, -1 for one to minimize.
        count: Number of draws.
        generator: Random generator.
    """
    noise = generator.standard_normal(count)
    return Height(sign * optimum.height.value + optimum.height.standard_error * noise, *_seed_deviation(optimum))


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
    variance = np.maximum(errors, _SMALLEST_ERROR) ** 2
    middle, level = math.exp(float(np.log(widths).mean())), float(values.mean())
    values = values - level
    log_weights, means, deviations = [], [], []
    for power, scatter in itertools.product(_POWERS, SCATTERS):
        design, target = _design(np.array(widths) / middle, power), _design(np.array([width / middle]), power)[0]
        weight = 1 / (variance + scatter**2)
        precision = design.T @ (weight[:, None] * design) + np.diag([_LEVEL_SPREAD**-2, _RISE_SPREAD**-2])
        center = np.linalg.solve(precision, design.T @ (weight * values))
        log_weights.append(
            0.5 * float(np.sum(np.log(weight)))
            - 0.5 * float(np.linalg.slogdet(precision)[1])
            - 0.5 * float(weight @ values**2 - center @ precision @ center)
        )
        means.append(float(target @ center))
        deviations.append(math.sqrt(float(target @ np.linalg.solve(precision, target)) + scatter**2))
    weights = np.exp(np.array(log_weights) - max(log_weights))
    rows = generator.choice(weights.size, count, p=weights / weights.sum())
    draws = np.array(means)[rows] + np.array(deviations)[rows] * generator.standard_normal(count)
    nearest = nearest_by_factor(widths, width)
    return Height((level + draws) * unit, *_seed_deviation(optima[nearest]))


def _design(widths: Array, power: float) -> Array:
    """Return the columns 1 and f of widths in units of the middle width."""
    f = np.log(widths) if power == 0 else -np.expm1(-power * np.log(widths)) / power
    return np.stack([np.ones_like(f), f], axis=1)


def _seed_deviation(optimum: Optimum) -> tuple[float, float]:
    """Return the standard deviation of one seed, and its degrees of freedom."""
    seeds = len(optimum.height_by_seed)
    return (float(np.std(optimum.height_by_seed, ddof=1)), seeds - 1.0) if seeds > 1 else (0.0, math.inf)
