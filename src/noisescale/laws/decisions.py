"""The setting of least expected loss at a width that was not trained.

The law predicts where the optimum lies, and the curves of the trained widths say how the metric falls on either side.
Both are uncertain. The decision minimizes the expected drop below the optimum over both. Where the curve falls more
steeply towards more noise, the decision lies below the law's median, by a margin that grows with the uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.laws.curve_shapes import FAMILIES
from noisescale.laws.place_laws import PlaceLaw
from noisescale.laws.shape_priors import ShapePrior

Array = NDArray[np.float64]

# Slopes beside the optimum, as shares of the span, change with width as a power with this mean and standard deviation.
# So slopes that double over two octaves are expected, and slopes that grow fourfold are no surprise.
_GROWTH, _GROWTH_SPREAD = 0.3, 0.5
_DRAWS = 2000
# The decision is sought within this many standard deviations of the law's median.
_REACH, _POINTS = 4.0, 161


@dataclass(frozen=True)
class Decision:
    """A decision at one width.

    Args:
        place: Position x of least expected drop.
        regret: Expected drop below the optimum there, in the metric's unit.
        regret_high: 95 % quantile of that drop.
    """

    place: float
    regret: float
    regret_high: float


@dataclass(frozen=True, eq=False)
class Outlook:
    """Draws of where the optimum lies at a width, and of how the metric falls beside it.

    Args:
        places: Place of the optimum in each draw, shape [draws].
        drops: For each family of shapes, the rows of `places`, the variants and the parameters of its draws.
        span: Span of the metric; no drop exceeds it.
    """

    places: Array
    drops: tuple[tuple[int, NDArray[np.intp], NDArray[np.intp], Array], ...]
    span: float

    def drop(self, x: Array) -> Array:
        """Return the drop below the optimum at the positions x, shape [draws, points]."""
        result = np.empty((self.places.size, x.size))
        for index, rows, variant, parameters in self.drops:
            result[rows] = FAMILIES[index].drops(x - self.places[rows, None], variant)(parameters)[0]
        return np.minimum(result, self.span)

    def decide(self) -> Decision:
        """Return the decision of least expected drop."""
        middle, spread = float(np.median(self.places)), float(self.places.std())
        x = np.linspace(middle - _REACH * spread, middle + _REACH * spread, _POINTS)
        drops = self.drop(x)
        best = int(np.argmin(drops.mean(axis=0)))
        return Decision(float(x[best]), float(drops[:, best].mean()), float(np.quantile(drops[:, best], 0.95)))


def outlook(law: PlaceLaw, shapes: ShapePrior, span: float, width: float) -> Outlook:
    """Draw the place of the optimum and the shape of the curve at a width.

    Args:
        law: Law of the optimum over width.
        shapes: Prior of shapes that the trained widths give.
        span: Span of the metric at the width.
        width: Width of the network.

    Returns:
        The draws.
    """
    generator = np.random.default_rng(0)
    rows = generator.choice(law.weights.size, _DRAWS, p=law.weights)
    places = law.values({"width": math.log(width)})[rows] + law.scatter[rows] * generator.standard_normal(_DRAWS)
    log_weights = [shapes.log_weights(index) for index in range(len(FAMILIES))]
    probabilities = np.exp(np.concatenate(log_weights))
    chosen = generator.choice(probabilities.size, _DRAWS, p=probabilities / probabilities.sum())
    ends = np.cumsum([0, *(part.size for part in log_weights)])
    distance = math.log(width) - float(law.middles[law.axes.index("width")])
    parts = []
    for index, family in enumerate(FAMILIES):
        of_family = np.flatnonzero((chosen >= ends[index]) & (chosen < ends[index + 1]))
        variant = chosen[of_family] - ends[index]
        means, spreads = shapes.parameters(index, variant, span)
        q = means + spreads * generator.standard_normal(means.shape)
        growth = _GROWTH + _GROWTH_SPREAD * generator.standard_normal(means.shape)
        q += distance * growth * np.array(family.amplitudes)
        parts.append((index, of_family, variant, q))
    return Outlook(places, tuple(parts), span)
