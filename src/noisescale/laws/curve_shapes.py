"""The shapes that a curve may have around its optimum, as families whose members are compared and averaged.

A shape gives the drop of the metric below its optimum at a log distance z from it. Every shape has its maximum at
z = 0. Amplitudes are shares of the metric's span per nat, so that accuracy, loss and other metrics are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Variants = NDArray[np.intp]
Drops = Callable[[Array], tuple[Array, Array]]

# Log amplitudes have normal priors around these shares of the span, with these standard deviations. A factor 3 either
# way is one standard deviation. On ten public ladders of learning rates the slopes beside the optimum lie between 0.02
# and 0.6 of the span for each nat.
_SLOPE, _SLOPE_SPREAD = 0.12, 1.2
_BEND, _BEND_SPREAD = 0.03, 1.5
# Exponents above this limit overflow.
_LARGEST_EXPONENT = 40.0


class Family(Protocol):
    """Shapes with the same parameters. Variants differ in constants, such as the radius of the tip.

    The parameters of a shape are logarithms. Those that are amplitudes grow with the span of the metric.
    """

    @property
    def log_weights(self) -> Array:
        """Log prior probability of each variant."""

    @property
    def parameters(self) -> int:
        """Number P of parameters."""

    @property
    def amplitudes(self) -> tuple[bool, ...]:
        """Whether each parameter is an amplitude."""

    def prior(self, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior means and standard deviations of the parameters.

        Args:
            variant: Variant of each curve, shape [G].
            span: Span of the metric.

        Returns:
            Means and standard deviations, each of shape [G, P].
        """

    def terms(self, z: Array, variant: Variants) -> Array | None:
        """Return the terms of a drop that is a sum of terms, each times the exponential of its parameter.

        Args:
            z: Distances from the optimum, in nats, shape [G, cells].
            variant: Variant of each curve, shape [G].

        Returns:
            The terms, shape [G, cells, P]; None for other drops.
        """

    def drops(self, z: Array, variant: Variants) -> Drops:
        """Return the drop of the metric below its optimum, as a function of the parameters.

        Args:
            z: Distances from the optimum, in nats, shape [G, cells].
            variant: Variant of each curve, shape [G].

        Returns:
            A function of the parameters, shape [G, P]. It returns the drop, at least 0, shape [G, cells], and its
            derivatives by the parameters, shape [G, cells, P].
        """


def _constant_prior(means: list[float], spreads: list[float], curves: int) -> tuple[Array, Array]:
    return np.tile(np.array(means), (curves, 1)), np.tile(np.array(spreads), (curves, 1))


def _sum_of(terms: Array) -> Drops:
    """Return the drop that is the sum of the terms, each times the exponential of its parameter."""

    def drop(q: Array) -> tuple[Array, Array]:
        derivatives = terms * np.exp(q)[:, None]
        return derivatives.sum(axis=2), derivatives

    return drop


@dataclass(frozen=True)
class Tent:
    """A tent with a round tip: a hyperbola with the slopes L below and R above the optimum and the tip radius t.

    drop = m·√(v² + t²) + d·v - t·√(LR), with v = z - d·t/√(LR), m = (L + R)/2 and d = (R - L)/2.
    """

    weight: float

    parameters = 3
    amplitudes = (True, True, False)

    @property
    def log_weights(self) -> Array:
        """Log prior probability of the only variant."""
        return np.log([self.weight])

    def prior(self, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior of log L, log R and log t; t is between 0.03 and 0.4 nats in two thirds of its mass."""
        slope = math.log(_SLOPE * span)
        return _constant_prior([slope, slope, math.log(0.11)], [_SLOPE_SPREAD, _SLOPE_SPREAD, 1.3], variant.size)

    def terms(self, z: Array, variant: Variants) -> None:
        """Return None: the drop is no such sum."""

    def drops(self, z: Array, variant: Variants) -> Drops:
        """Return the drop and its derivatives by log L, log R and log t."""

        def drop(q: Array) -> tuple[Array, Array]:
            low, high, tip = (np.exp(q[:, k : k + 1]) for k in range(3))
            middle, half = (low + high) / 2, (high - low) / 2
            root = np.sqrt(low * high)
            v = z - half * tip / root
            h = np.sqrt(v * v + tip * tip)
            value = middle * h + half * v - tip * root
            lean = middle * v / h + half
            # The offset of v moves with every parameter of the hyperbola.
            shift = 0.5 * tip / root
            by_low = low * (h / 2 - v / 2 + lean * shift * (1 + half / low) - shift * high)
            by_high = high * (h / 2 + v / 2 + lean * shift * (half / high - 1) - shift * low)
            by_tip = tip * (middle * tip / h - lean * half / root - root)
            return value, np.stack([by_low, by_high, by_tip], axis=2)

        return drop


@dataclass(frozen=True)
class Parabola:
    """A symmetric parabola: drop = c·z²."""

    weight: float

    parameters = 1
    amplitudes = (True,)

    @property
    def log_weights(self) -> Array:
        """Log prior probability of the only variant."""
        return np.log([self.weight])

    def prior(self, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior of log c."""
        return _constant_prior([math.log(_BEND * span)], [_BEND_SPREAD], variant.size)

    def terms(self, z: Array, variant: Variants) -> Array:
        """Return z²."""
        return (z * z)[:, :, None]

    def drops(self, z: Array, variant: Variants) -> Drops:
        """Return the drop and its derivative by log c."""
        return _sum_of(self.terms(z, variant))


@dataclass(frozen=True)
class Skewed:
    """A smooth peak that falls faster on one side: drop = c·(exp(sz) - 1 - sz)/s². The second variant is mirrored."""

    weight: float

    parameters = 2
    amplitudes = (True, False)

    @property
    def log_weights(self) -> Array:
        """Log prior probabilities; training breaks down on the side of more noise, so this side is the steeper one."""
        return np.log(self.weight * np.array([0.75, 0.25]))

    def prior(self, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior of log c and log s."""
        return _constant_prior([math.log(2 * _BEND * span), math.log(1.5)], [_BEND_SPREAD, 1.0], variant.size)

    def terms(self, z: Array, variant: Variants) -> None:
        """Return None: the drop is no such sum."""

    def drops(self, z: Array, variant: Variants) -> Drops:
        """Return the drop and its derivatives by log c and log s."""
        toward = np.where(variant[:, None] == 0, z, -z)

        def drop(q: Array) -> tuple[Array, Array]:
            c, s = np.exp(q[:, :1]), np.exp(q[:, 1:])
            u = np.minimum(s * toward, _LARGEST_EXPONENT)
            growth = np.expm1(u)
            value = c * (growth - u) / (s * s)
            return value, np.stack([value, c * u * growth / (s * s) - 2 * value], axis=2)

        return drop


# Left and right sides of a curve, each as (kind, constant in nats, prior probability, log factor of the prior slope).
_SIDES = (
    ("tip", 0.04, 0.21, 0.0),
    ("tip", 0.14, 0.21, 0.0),
    ("tip", 0.5, 0.21, 0.0),
    ("exponential", 0.15, 0.12, 0.0),
    ("exponential", 0.4, 0.12, 0.0),
    ("tip", 0.03, 0.13, math.log(12.0)),
)
_KIND = np.array([("tip", "exponential").index(side[0]) for side in _SIDES])
_CONSTANT = np.array([side[1] for side in _SIDES])
_PROBABILITY = np.array([side[2] for side in _SIDES])
_STEEPER = np.array([side[3] for side in _SIDES])
# Two tips whose radii differ by this log factor are less likely by exp(-1/2) than equal ones: a smooth curve has one
# curvature at its top.
_TIP_SPREAD = 0.6


@dataclass(frozen=True)
class TwoSided:
    """Two sides that share only their top. On either side drop = a·h(u) + b·u², with u = |z|.

    h(u) = √(u² + t²) - t (a tip of radius t), or an exponential exp(u/t) - 1 - u/t with h(0.5) = 0.5.
    """

    weight: float

    parameters = 4
    amplitudes = (True, True, True, True)

    @property
    def log_weights(self) -> Array:
        """Log prior probability of each pair (left side, right side)."""
        pairs = np.outer(_PROBABILITY, _PROBABILITY)
        gentle_tip = (_KIND == 0) & (_STEEPER == 0)
        both = np.outer(gentle_tip, gentle_tip)
        ratio = np.log(_CONSTANT[:, None] / _CONSTANT)
        alike = pairs * np.exp(-0.5 * (ratio / _TIP_SPREAD) ** 2)
        pairs = np.where(both, alike * pairs[both].sum() / alike[both].sum(), pairs)
        return np.asarray(np.log(self.weight * pairs / pairs.sum()).ravel())

    def prior(self, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior of log a of the left and of the right side, and of log b of either."""
        slope, bend = math.log(_SLOPE * span), math.log(_BEND * span)
        spreads = [_SLOPE_SPREAD, _SLOPE_SPREAD, _BEND_SPREAD, _BEND_SPREAD]
        means, deviations = _constant_prior([slope, slope, bend, bend], spreads, variant.size)
        means[:, 0] += _STEEPER[variant // len(_SIDES)]
        means[:, 1] += _STEEPER[variant % len(_SIDES)]
        return means, deviations

    def terms(self, z: Array, variant: Variants) -> Array:
        """Return h of the left and of the right side, and z² of either."""
        left = (z < 0).astype(np.float64)
        right = 1 - left
        side = np.where(z < 0, (variant // len(_SIDES))[:, None], (variant % len(_SIDES))[:, None])
        rise, square = _rise(np.abs(z), _KIND[side], _CONSTANT[side]), z * z
        return np.stack([left * rise, right * rise, left * square, right * square], axis=2)

    def drops(self, z: Array, variant: Variants) -> Drops:
        """Return the drop and its derivatives by log a (left, right) and log b (left, right)."""
        return _sum_of(self.terms(z, variant))


def _rise(u: Array, kind: NDArray[np.intp], constant: Array) -> Array:
    """Return h(u) of the sides' kinds."""
    exponent, at_half = np.minimum(u / constant, _LARGEST_EXPONENT), 0.5 / constant
    exponential = 0.5 * (np.expm1(exponent) - exponent) / (np.expm1(at_half) - at_half)
    return np.where(kind == 0, np.sqrt(u * u + constant**2) - constant, exponential)


# Distances of the ends of a plateau from the optimum, in nats: log-normal around 0.6 nats, with a factor e on
# either side. An end moves within its variant only, because a fit does not find an end far from where it starts.
_ENDS = np.array([0.15, 0.35, 0.8, 1.7, 3.2])
_PLATEAU, _PLATEAU_SPREAD, _WITHIN = 0.6, 1.0, 0.3
_END_RADIUS = 0.1
# Slopes on a plateau, as shares of the span per nat.
_GENTLE, _GENTLE_SPREAD = 0.01, 1.5


@dataclass(frozen=True)
class Plateau:
    """A top that falls gently on either side, and steeply beyond its ends.

    On either side drop = a·(√(u² + t²) - t) + w·(√(v² + t²) - t), with u = |z|, v = max(u - c, 0), the distance c of
    the end and the radius t = 0.1. Variants differ in the distances of the ends.
    """

    weight: float

    parameters = 6
    amplitudes = (True, True, True, True, False, False)

    @property
    def log_weights(self) -> Array:
        """Log prior probability of each pair of ends."""
        side = np.exp(-0.5 * (np.log(_ENDS / _PLATEAU) / _PLATEAU_SPREAD) ** 2)
        pairs = np.outer(side, side) / side.sum() ** 2
        return np.asarray(np.log(self.weight * pairs).ravel())

    def prior(self, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior of log a, log w and log c, each of the left and of the right side."""
        gentle, slope = math.log(_GENTLE * span), math.log(2 * _SLOPE * span)
        spreads = [spread for spread in (_GENTLE_SPREAD, _SLOPE_SPREAD, _WITHIN) for _ in range(2)]
        means, deviations = _constant_prior([gentle, gentle, slope, slope, 0.0, 0.0], spreads, variant.size)
        means[:, 4] = np.log(_ENDS)[variant // _ENDS.size]
        means[:, 5] = np.log(_ENDS)[variant % _ENDS.size]
        return means, deviations

    def terms(self, z: Array, variant: Variants) -> None:
        """Return None: the drop is no such sum."""

    def drops(self, z: Array, variant: Variants) -> Drops:
        """Return the drop and its derivatives by log a, log w and log c, each of the left and of the right side."""
        sides = (z < 0, z >= 0)
        u, radius = np.abs(z), _END_RADIUS
        near = np.sqrt(u * u + radius**2) - radius

        def drop(q: Array) -> tuple[Array, Array]:
            a, w, c = np.exp(q[:, 0:2]), np.exp(q[:, 2:4]), np.exp(q[:, 4:6])
            gentle, steep, ends = [], [], []
            for index, side in enumerate(sides):
                v = np.maximum(u - c[:, index : index + 1], 0.0)
                root = np.sqrt(v * v + radius**2)
                gentle.append(np.where(side, a[:, index : index + 1] * near, 0.0))
                steep.append(np.where(side, w[:, index : index + 1] * (root - radius), 0.0))
                ends.append(np.where(side, -(w * c)[:, index : index + 1] * v / root, 0.0))
            return gentle[0] + gentle[1] + steep[0] + steep[1], np.stack([*gentle, *steep, *ends], axis=2)

        return drop


@dataclass(frozen=True)
class Cliff:
    """A slope that ends in a cliff: drop = L·u + b·u² before it, and D·(1 - exp(-u/s)) beyond.

    The second variant is mirrored.
    """

    weight: float

    parameters = 4
    amplitudes = (True, True, True, False)

    @property
    def log_weights(self) -> Array:
        """Log prior probabilities; training breaks down on the side of more noise."""
        return np.log(self.weight * np.array([0.75, 0.25]))

    def prior(self, variant: Variants, span: float) -> tuple[Array, Array]:
        """Return the prior of log L, log b, log D and log s."""
        means = [math.log(_SLOPE * span), math.log(_BEND * span), math.log(0.5 * span), math.log(0.12)]
        return _constant_prior(means, [_SLOPE_SPREAD, _BEND_SPREAD, 0.7, 1.0], variant.size)

    def terms(self, z: Array, variant: Variants) -> None:
        """Return None: the drop is no such sum."""

    def drops(self, z: Array, variant: Variants) -> Drops:
        """Return the drop and its derivatives by log L, log b, log D and log s."""
        toward = np.where(variant[:, None] == 0, z, -z)
        before, u = toward < 0, np.abs(z)

        def drop(q: Array) -> tuple[Array, Array]:
            slope, bend, depth, scale = (np.exp(q[:, k : k + 1]) for k in range(4))
            exponent = np.minimum(u / scale, _LARGEST_EXPONENT)
            fall = -depth * np.expm1(-exponent)
            zero = np.zeros_like(z)
            linear, square = np.where(before, slope * u, zero), np.where(before, bend * u * u, zero)
            beyond = np.where(before, zero, fall)
            by_scale = np.where(before, zero, -depth * exponent * np.exp(-exponent))
            return linear + square + beyond, np.stack([linear, square, beyond, by_scale], axis=2)

        return drop


FAMILIES: tuple[Family, ...] = (Tent(0.2), Parabola(0.07), Skewed(0.17), TwoSided(0.22), Plateau(0.13), Cliff(0.21))
