"""What is known of a width's curve: where its optimum lies, how high it is, and how the metric falls beside it.

The law (or the curve itself, at a trained width) predicts the place, and the trained curves say how the metric falls on
either side. Both are uncertain. The decision minimizes the expected drop below the optimum over both. Where the curve
falls more steeply towards more noise, the decision lies below the median, by a margin that grows with the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.laws.curve_shapes import FAMILIES
from noisescale.laws.heights import Height, measured_height, predicted_height
from noisescale.laws.optima import Optimum
from noisescale.laws.place_laws import PlaceLaw
from noisescale.laws.shape_priors import ShapePrior

Array = NDArray[np.float64]
# Position of a family in `FAMILIES`, and the rows, variants and parameters of its draws.
Drops = tuple[int, NDArray[np.intp], NDArray[np.intp], Array]

# Slopes beside the optimum, as shares of the span, change with width as a power with this mean and standard deviation.
# So slopes that double over two octaves are expected, and slopes that grow fourfold are no surprise.
_GROWTH, _GROWTH_SPREAD = 0.3, 0.5
_DRAWS = 2000
# The decision is sought within this many standard deviations of the median.
_REACH, _POINTS = 4.0, 161


@dataclass(frozen=True, eq=False)
class Outlook:
    """Draws of a width's curve.

    Args:
        places: Place of the optimum in each draw, shape [draws].
        drops: Shapes of the draws, one part for each family.
        span: Span of the metric; no drop exceeds it.
        height: Height of the optimum, with as many draws.
    """

    places: Array
    drops: tuple[Drops, ...]
    span: float
    height: Height

    def drop(self, x: Array) -> Array:
        """Return the drop below the optimum at the positions x, shape [draws, points]."""
        result = np.empty((self.places.size, x.size))
        for index, rows, variant, parameters in self.drops:
            result[rows] = FAMILIES[index].drops(x - self.places[rows, None], variant)(parameters)[0]
        return np.minimum(result, self.span)

    def decision(self, low: float = -math.inf, high: float = math.inf) -> float:
        """Return the position x of least expected drop, between two limits."""
        middle, spread = float(np.median(self.places)), float(self.places.std())
        reach = _REACH * spread
        x = np.clip(np.linspace(middle - reach, middle + reach, _POINTS), low, high)
        return float(x[np.argmin(self.drop(x).mean(axis=0))])


def outlook_of_law(
    law: PlaceLaw, optima: dict[float, Optimum], width: float, sign: float, seed: int = 0
) -> Outlook | None:
    """Draw the curve at a width that was not trained.

    Args:
        law: Law of the optimum over width.
        optima: Optimum of each width whose curve has one.
        width: Width of the network.
        sign: 1 for a metric to maximize, -1 for one to minimize.
        seed: Seed of the draws. Curves that were measured apart need different seeds.

    Returns:
        The draws; None without a curve whose shape is known.
    """
    shapes = tuple(
        optimum.shape for optimum in optima.values() if optimum.shape is not None and optimum.label == "interior"
    )
    if not shapes:
        return None
    generator = np.random.default_rng(seed)
    rows = generator.choice(law.weights.size, _DRAWS, p=law.weights)
    places = law.values({"width": math.log(width)})[rows] + law.scatter[rows] * generator.standard_normal(_DRAWS)
    distance = math.log(width) - float(law.middles[law.axes.index("width")])
    span = optima[max(optima)].span
    heights = {trained: optimum for trained, optimum in optima.items() if math.isfinite(optimum.height.standard_error)}
    height = predicted_height(heights, width, sign, _DRAWS, generator)
    return Outlook(places, _predicted_drops(ShapePrior(shapes), span, distance, generator), span, height)


def outlook_of_curve(optimum: Optimum, sign: float, seed: int = 0) -> Outlook | None:
    """Draw the curve of a trained width.

    Args:
        optimum: Optimum of the width.
        sign: 1 for a metric to maximize, -1 for one to minimize.
        seed: Seed of the draws. Curves that were measured apart need different seeds.

    Returns:
        The draws; None if the shape of the curve is not known.
    """
    if optimum.shape is None or optimum.likelihood is None:
        return None
    generator = np.random.default_rng(seed)
    density = optimum.likelihood
    step = float(density.places[1] - density.places[0])
    rows = generator.choice(density.places.size, _DRAWS, p=density.density / density.density.sum())
    places = density.places[rows] + step * (generator.random(_DRAWS) - 0.5)
    weights = [part.weights for part in optimum.shape]
    parts = []
    for index, rows, variant in _choices(weights, generator):
        part, family = optimum.shape[index], FAMILIES[index]
        noise = generator.standard_normal((rows.size, family.parameters))
        q = part.mean + np.sqrt(part.variance) * noise + math.log(optimum.span) * np.array(family.amplitudes)
        parts.append((index, rows, variant, q))
    return Outlook(places, tuple(parts), optimum.span, measured_height(optimum, sign, _DRAWS, generator))


def _predicted_drops(
    shapes: ShapePrior, span: float, distance: float, generator: np.random.Generator
) -> tuple[Drops, ...]:
    """Draw shapes at a distance, in log width, from the widths that the prior comes from."""
    parts = []
    for index, rows, variant in _choices([np.exp(shapes.log_weights(k)) for k in range(len(FAMILIES))], generator):
        means, spreads = shapes.parameters(index, variant, span)
        q = means + spreads * generator.standard_normal(means.shape)
        growth = _GROWTH + _GROWTH_SPREAD * generator.standard_normal(means.shape)
        q += distance * growth * np.array(FAMILIES[index].amplitudes)
        parts.append((index, rows, variant, q))
    return tuple(parts)


def _choices(
    weights: Sequence[Array], generator: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
    """Choose a family and a variant for each draw, given the weights of each family's variants."""
    probabilities = np.concatenate(weights)
    chosen = generator.choice(probabilities.size, _DRAWS, p=probabilities / probabilities.sum())
    ends = np.cumsum([0, *(part.size for part in weights)])
    for index in range(len(weights)):
        rows = np.flatnonzero((chosen >= ends[index]) & (chosen < ends[index + 1]))
        yield index, rows, chosen[rows] - ends[index]
