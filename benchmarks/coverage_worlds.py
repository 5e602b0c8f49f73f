"""Planted worlds with a known optimum: a curve, the noise of its seeds, and runs that fail or break.

A world is a curve over the distance z from its anchor, in nats. The place of its optimum and the height there are those
of the expected metric, in which a failed run counts as the constant predictor. Broken runs that are not flagged do not
belong to the expected metric. This module does not import the package, so that other versions can measure equal draws.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

Array = NDArray[np.float64]
Curve = Callable[..., Array]

# The curve's maximum, and the metric of the constant predictor.
TOP, CONSTANT = 0.6, 0.1
NOISES, SEEDS = (0.003, 0.007, 0.014), (3, 5, 10, 20)
LADDERS = {"√2": (math.sqrt(2), 13), "2": (2.0, 8)}
FIFTHS = 5


def tent(z: Array, low: Array, high: Array, tip: Array) -> Array:
    """Return a hyperbola with the slopes `low` and `high` beside a tip of this radius; its maximum is 0 at z = 0."""
    root = np.sqrt(low * high)
    middle, half = (low + high) / 2, (high - low) / 2
    v = z - half * tip / root
    return np.asarray(tip * root - middle * np.hypot(v, tip) - half * v)


def parabola(z: Array, bend: Array) -> Array:
    """Return -bend·z²."""
    return np.asarray(-bend * z * z)


def skewed(z: Array, bend: Array, skew: Array) -> Array:
    """Return a smooth peak that falls faster above its maximum: -bend·(exp(skew·z) - 1 - skew·z)/skew²."""
    u = np.minimum(skew * z, 40.0)
    return np.asarray(-bend * (np.expm1(u) - u) / skew**2)


def shoulder(z: Array, depth: Array, distance: Array, width: Array, scale: Array) -> Array:
    """Return a rise that bends gently into a logistic fall at this distance above the maximum."""
    at_top = expit(-distance / width)
    # The rise has the slope of the fall at z = 0.
    rise = 2 * scale * depth / width * at_top * (1 - at_top)
    fall = depth * (expit((z - distance) / width) - at_top)
    return np.asarray(-rise * (np.logaddexp(0.0, -z / scale) - math.log(2)) - fall)


def plateau(z: Array, low: Array, high: Array, half_width: Array) -> Array:
    """Return a top that is nearly flat over a range and falls with the slopes `low` and `high` beside it."""
    u = np.where(z < 0, -z * low / high, z)
    return np.asarray(-high * (np.hypot(np.maximum(u - half_width, 0.0), 0.1) - 0.1) - 0.002 * z * z)


def cliff(z: Array, slope: Array, depth: Array, width: Array) -> Array:
    """Return a rise up to a corner, and an exponential fall of this depth and width beyond it."""
    return np.asarray(np.where(z <= 0, slope * z, depth * np.expm1(-np.maximum(z, 0.0) / width)))


def rippled_tent(z: Array, low: Array, high: Array, tip: Array) -> Array:
    """Return a tent with ripples of 0.2 points and a wavelength of 1.3 nats, which no family of shapes has."""
    return np.asarray(tent(z, low, high, tip) + 0.002 * np.sin(2 * math.pi * z / 1.3 + 1.0))


def stairs(z: Array, low: Array, high: Array, tip: Array) -> Array:
    """Return a tent whose rise is three times as steep further than 0.6 nats below the maximum."""
    return np.asarray(tent(z, low, high, tip) - 2 * low * 0.1 * np.logaddexp(0.0, (-z - 0.6) / 0.1))


@dataclass(frozen=True)
class World:
    """A kind of problem.

    Args:
        curve: Curve of the runs that do not fail, as a function of z and positive parameters.
        parameters: Parameters of the curve.
        well_specified: Whether the noise is independent over the cells, normal and equal in all, so that a model with
            the world's curve and free parameters is well specified.
        offset: Standard deviation of a seed's common offset.
        shift: Standard deviation of a seed's shift of the optimum, in nats.
        correlation: Correlation of a seed's noise in cells a factor √2 apart.
        tails: Degrees of freedom of the noise (Student's t, scaled to the standard deviation).
        growth: Growth of the log standard deviation of the noise per nat.
        failures: Share of runs that fail anywhere and are flagged.
        collapses: Share of runs that lose 10 to 90 % of their distance from the constant predictor, not flagged.
        edge: Distance from the anchor at which half of the runs fail, in nats; the edge is 0.15 nats wide.
        blown_up: Distance above the anchor from which the metric is finite but far below that of any other cell.
    """

    curve: Curve
    parameters: tuple[float, ...]
    well_specified: bool = True
    offset: float = 0.0
    shift: float = 0.0
    correlation: float = 0.0
    tails: float = math.inf
    growth: float = 0.0
    failures: float = 0.0
    collapses: float = 0.0
    edge: float = math.inf
    blown_up: float = math.inf

    def failure_rate(self, z: Array) -> Array:
        """Return the probability that a run fails and is flagged."""
        return np.asarray(self.failures + (1 - self.failures) * ndtr((z - self.edge) / 0.15))

    def expected(self, z: Array) -> Array:
        """Return the expected metric, with failed runs as the constant predictor."""
        shifts = self.shift * ndtri((np.arange(201) + 0.5) / 201) if self.shift else np.zeros(1)
        curve = TOP + np.mean([self.curve(z - shift, *self.parameters) for shift in shifts], axis=0)
        return np.asarray(curve - self.failure_rate(z) * (curve - CONSTANT))

    @cached_property
    def optimum(self) -> tuple[float, float]:
        """Distance of the optimum from the anchor, and the expected metric there."""
        z = np.linspace(-1.5, 1.5, 15_001)
        values = self.expected(z)
        return float(z[np.argmax(values)]), float(values.max())

    def draw(self, generator: np.random.Generator, design: Design) -> Draw:
        """Draw the runs of a ladder. The optimum lies uniformly in an interval between two cells near the middle."""
        step = math.log(design.factor)
        x = np.asarray(step * np.arange(design.cells), dtype=np.float64)
        fraction = generator.random()
        place = float(x[design.cells // 2 - 1 + generator.integers(-1, 2)] + step * fraction)
        offset, height = self.optimum
        z = np.asarray(x - (place - offset), dtype=np.float64)
        y, failed = self.runs(generator, z, design.noise, design.seeds)
        return Draw(x, y, failed, place, height, min(int(fraction * FIFTHS), FIFTHS - 1))

    def runs(
        self, generator: np.random.Generator, z: Array, deviation: float, seeds: int
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Draw runs.

        Args:
            generator: Random generator.
            z: Distance of each cell from the anchor, in nats, shape [cells].
            deviation: Standard deviation of a run's metric.
            seeds: Number of seeds.

        Returns:
            Metric, and the mask of failed runs, each of shape [seeds, cells].
        """
        shape = (seeds, z.size)
        noise = generator.standard_normal(shape)
        if math.isfinite(self.tails):
            noise = generator.standard_t(self.tails, shape) / math.sqrt(self.tails / (self.tails - 2))
        if self.correlation:
            distance = np.abs(z[:, None] - z) / math.log(math.sqrt(2))
            noise = noise @ np.linalg.cholesky(self.correlation**distance).T
        shifts = self.shift * generator.standard_normal((seeds, 1))
        y = TOP + self.curve(z - shifts, *self.parameters) + deviation * np.exp(self.growth * z) * noise
        y = y + self.offset * generator.standard_normal((seeds, 1))
        broken = generator.random(shape) < self.collapses
        y = np.where(broken, CONSTANT + generator.uniform(0.1, 0.9, shape) * (y - CONSTANT), y)
        # The factor is never 1, so that blown-up runs differ as real ones do.
        y = np.where(z > self.blown_up, y - 4 * np.exp(0.5 * generator.standard_normal(shape)), y)
        failed = generator.random(shape) < self.failure_rate(z)
        return np.where(failed, CONSTANT, y), failed


@dataclass(frozen=True)
class Design:
    """The ladder of a draw and its noise.

    Args:
        ladder: Factor between neighbouring cells, as a key of `LADDERS`.
        noise: Standard deviation of a run's metric.
        seeds: Number of seeds.
    """

    ladder: str
    noise: float
    seeds: int

    @property
    def factor(self) -> float:
        """Factor between neighbouring cells."""
        return LADDERS[self.ladder][0]

    @property
    def cells(self) -> int:
        """Number of cells."""
        return LADDERS[self.ladder][1]


@dataclass(frozen=True)
class Draw:
    """The runs of a ladder, and their truth.

    Args:
        x: Positions of the cells, in nats, shape [cells].
        y: Metric, shape [seeds, cells].
        failed: Runs that are flagged as failed, shape [seeds, cells].
        place: Position of the optimum.
        height: Expected metric at the optimum.
        fifth: Fifth of the interval between two cells that contains the optimum, from 0 to 4.
    """

    x: Array
    y: Array
    failed: NDArray[np.bool_]
    place: float
    height: float
    fifth: int


DESIGNS = tuple(Design(*values) for values in itertools.product(LADDERS, NOISES, SEEDS))

_TENT = (0.045, 0.085)
WORLDS: dict[str, World] = {
    **{f"tent, tip {tip:g}": World(tent, (*_TENT, tip)) for tip in (0.03, 0.06, 0.12, 0.25, 0.4)},
    "shoulder": World(shoulder, (0.3, 0.96, 0.25, 0.5)),
    "plateau": World(plateau, (0.056, 0.08, 0.4)),
    "cliff": World(cliff, (0.045, 0.25, 0.12)),
    "parabola": World(parabola, (0.03,)),
    "skewed peak": World(skewed, (0.08, 1.5)),
    "heavy tails": World(tent, (*_TENT, 0.12), well_specified=False, tails=2.5),
    "seeds with offsets": World(tent, (*_TENT, 0.12), offset=0.01),
    "seeds with shifted optima": World(tent, (*_TENT, 0.12), well_specified=False, shift=0.1),
    "correlated neighbours": World(tent, (*_TENT, 0.12), well_specified=False, correlation=0.5),
    "failures anywhere": World(tent, (*_TENT, 0.12), well_specified=False, failures=0.04),
    "partial collapses": World(tent, (*_TENT, 0.12), well_specified=False, collapses=0.04),
    "edge of failures": World(tent, (*_TENT, 0.4), well_specified=False, edge=0.35),
    "blown-up cells": World(parabola, (0.03,), well_specified=False, blown_up=1.0),
    "rippled tent": World(rippled_tent, (*_TENT, 0.12), well_specified=False),
    "steep foot": World(stairs, (*_TENT, 0.12), well_specified=False, growth=-0.3),
}


def draws(kind: str, design: Design, count: int, seed: int) -> list[Draw]:
    """Return the draws of a kind and a design; equal in every process."""
    generator = np.random.default_rng([seed, zlib.crc32(kind.encode()), DESIGNS.index(design)])
    return [WORLDS[kind].draw(generator, design) for _ in range(count)]
