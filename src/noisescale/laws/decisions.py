"""What is known of a width's curve: where its optimum lies, how high it is, and how the metric falls beside it.

At a trained width these are draws of the curve of that width. At another width the curves of the trained widths are
moved along the law: a draw of the law says where the optimum of a trained width lies, a curve of that width with its
optimum there gives the shape, and the law says how far its place moves. So place and shape stay together: where the top
is a plateau, an optimum at its left end has the rest of the plateau to its right.

The decision minimizes the expected drop below the optimum. Where the curve falls more steeply towards more noise, the
decision lies below the median, by a margin that grows with the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisescale.laws.constant_predictor import NO_FAILURES, Failures
from noisescale.laws.curve_draws import CurveDraws, ShapePart
from noisescale.laws.curve_shapes import FAMILIES
from noisescale.laws.heights import measured_height, predicted_height
from noisescale.laws.optima import Optimum
from noisescale.laws.place_laws import PlaceLaw

Array = NDArray[np.float64]

# Slopes beside the optimum, as shares of the span, change with width as a power with this mean and standard deviation.
# So slopes that double over two octaves are expected, and slopes that grow fourfold are no surprise. Beside that, the
# slopes of widths scatter by this much (public ladders of an MLP on CIFAR-10: 0.4; Yang et al. 2021).
_GROWTH, _GROWTH_SPREAD, _SCATTER = 0.3, 0.5, 0.4
_DRAWS = 1000
# A trained width lends its shape with a weight that falls by a factor e for each nat of width.
_NEARNESS = 1.0
# Curves with their optimum within this share of its standard deviation have the place that a draw of the law asks for.
_BANDWIDTH = 0.3
# The decision is sought over this central share of the places, and as far beyond it on either side.
_CENTRAL, _POINTS = 0.98, 201


@dataclass(frozen=True, eq=False)
class Outlook:
    """Draws of a width's curve.

    Args:
        curves: Draws of the place of the optimum, of its height, in spans above a metric of 0, and of the shape beside
            it.
        span: Span of the metric; no drop exceeds it.
        deviation: Standard deviation of one seed about the mean over the seeds that do not fail.
        freedom: Degrees of freedom of this deviation.
        failures: Runs that fail at the optimum. Default: none.
        lowest: Position of the lowest trained cell of the width, below which nothing is known; minus infinity if the
            optimum lies inside the ladder. If an optimum lies below it, the lowest cell is the best.
    """

    curves: CurveDraws
    span: float
    deviation: float
    freedom: float = math.inf
    failures: Failures = NO_FAILURES
    lowest: float = -math.inf

    @property
    def places(self) -> Array:
        """Place of the optimum in each draw, shape [draws]."""
        return np.asarray(np.maximum(self.curves.places, self.lowest))

    @property
    def heights(self) -> Array:
        """Height of the optimum in each draw, shape [draws]."""
        return np.asarray(self.span * self.curves.heights)

    def drop(self, x: Array) -> Array:
        """Return the drop below the optimum at the positions x, shape [draws, points]."""
        drops = np.minimum(self.curves.drop(x), 1.0) - np.minimum(self.curves.drop(self.places[:, None]), 1.0)
        return np.asarray(self.span * np.maximum(drops, 0.0))

    def decision(self, low: float = -math.inf, high: float = math.inf) -> float:
        """Return the position x of least expected drop, between two limits."""
        first, last = np.quantile(self.places, ((1 - _CENTRAL) / 2, (1 + _CENTRAL) / 2))
        reach = (last - first) / 2
        x = np.clip(np.linspace(first - reach, last + reach, _POINTS), max(low, self.lowest), high)
        return float(x[np.argmin(self.drop(x).mean(axis=0))])


def outlook_of_law(
    law: PlaceLaw, optima: Mapping[float, Optimum], width: float, sign: float, seed: int = 0
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
    known = {trained: optimum.draws for trained, optimum in optima.items() if optimum.draws is not None}
    if not known:
        return None
    generator = np.random.default_rng(seed)
    nearness = np.array([math.exp(-abs(math.log(width / trained)) / _NEARNESS) for trained in known])
    lenders = generator.choice(len(known), _DRAWS, p=nearness / nearness.sum())
    rows = generator.choice(law.weights.size, _DRAWS, p=law.weights)
    places = law.draws({"width": math.log(width)}, rows, generator)
    parts: list[ShapePart] = []
    span = optima[max(optima)].span
    for lender, (trained, draws) in enumerate(known.items()):
        chosen = np.flatnonzero(lenders == lender)
        if not chosen.size:
            continue
        there = law.draws({"width": math.log(trained)}, rows[chosen], generator)
        for part in draws.take(_with_places(draws.places, there, generator)).parts:
            amplitudes = np.array(FAMILIES[part.family].amplitudes)
            shape = (part.rows.size, 1)
            growth = _GROWTH + _GROWTH_SPREAD * generator.standard_normal(shape)
            change = math.log(width / trained) * growth + _SCATTER * generator.standard_normal(shape)
            moved = part.parameters + change * amplitudes
            parts.append(ShapePart(part.family, chosen[part.rows], part.variant, moved))
    heights = {trained: optimum for trained, optimum in optima.items() if math.isfinite(optimum.height.standard_error)}
    height = predicted_height(heights, width, sign, _DRAWS, generator)
    return Outlook(CurveDraws(places, height.draws / span, tuple(parts)), span, height.deviation, height.freedom)


def outlook_of_curve(optimum: Optimum, sign: float, seed: int = 0, *, lowest: float = -math.inf) -> Outlook | None:
    """Draw the curve of a trained width.

    Args:
        optimum: Optimum of the width.
        sign: 1 for a metric to maximize, -1 for one to minimize.
        seed: Seed of the draws. Curves that were measured apart need different seeds.
        lowest: Position of the lowest cell, if the optimum may lie below the ladder.

    Returns:
        The draws; None if the shape of the curve is not known.
    """
    if optimum.draws is None:
        return None
    generator = np.random.default_rng(seed)
    curves = optimum.draws.take(generator.integers(0, optimum.draws.places.size, _DRAWS))
    height = measured_height(optimum, sign, _DRAWS, generator)
    curves = replace(curves, heights=height.draws / optimum.span)
    return Outlook(curves, optimum.span, height.deviation, height.freedom, lowest=lowest)


def _with_places(known: Array, asked: Array, generator: np.random.Generator) -> NDArray[np.intp]:
    """Choose for each place that is asked for a known one near it."""
    bandwidth = max(_BANDWIDTH * float(known.std()), 1e-6)
    distance = ((known - asked[:, None]) / bandwidth) ** 2
    weights = np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)))
    cumulative = np.cumsum(weights, axis=1)
    position = generator.random((asked.size, 1)) * cumulative[:, -1:]
    chosen: NDArray[np.intp] = np.minimum((cumulative < position).sum(axis=1), known.size - 1)
    return chosen
