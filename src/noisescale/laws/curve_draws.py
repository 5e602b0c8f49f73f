"""Draws of curves: where each has its optimum, how high it is, and how the metric falls beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisescale.laws.curve_shapes import FAMILIES, Variants

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShapePart:
    """The shapes of the draws of one family.

    Args:
        family: Position of the family in `FAMILIES`.
        rows: Which draws these are, shape [D].
        variant: Variant of each, shape [D].
        parameters: Parameters of each, shape [D, P].
    """

    family: int
    rows: Variants
    variant: Variants
    parameters: Array


@dataclass(frozen=True, eq=False)
class CurveDraws:
    """Draws of a curve, for a metric to maximize, in spans of the metric.

    Args:
        places: Place of the optimum, shape [K].
        heights: Metric at the optimum, in spans above the best cell, shape [K].
        parts: Shapes, one part for each family.
    """

    places: Array
    heights: Array
    parts: tuple[ShapePart, ...]

    def drop(self, x: Array) -> Array:
        """Return the drop below the optimum at the positions x, shape [K, points].

        Args:
            x: Positions, shape [points], or [K, points] for positions of each draw.
        """
        positions = np.broadcast_to(x, (self.places.size, np.shape(x)[-1]))
        result = np.empty(positions.shape)
        for part in self.parts:
            z = positions[part.rows] - self.places[part.rows, None]
            result[part.rows] = FAMILIES[part.family].drops(z, part.variant)(part.parameters)[0]
        return result

    def take(self, rows: Variants) -> CurveDraws:
        """Return some of the draws, which may repeat.

        Args:
            rows: Positions of the draws, shape [R].
        """
        parts = []
        position = np.full(self.places.size, -1)
        for part in self.parts:
            position[:] = -1
            position[part.rows] = np.arange(part.rows.size)
            chosen = np.flatnonzero(position[rows] >= 0)
            within = position[rows[chosen]]
            parts.append(replace(part, rows=chosen, variant=part.variant[within], parameters=part.parameters[within]))
        return CurveDraws(self.places[rows], self.heights[rows], tuple(parts))
