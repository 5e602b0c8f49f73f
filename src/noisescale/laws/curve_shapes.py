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
        return _constant_prior([math.log(2 * _BEND * span), 0.0], [_BEND_SPREAD, 0.7], variant.size)

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
    ("tip", 0.04, 0.18, 0.0),
    ("tip", 0.14, 0.18, 0.0),
    ("tip", 0.5, 0.18, 0.0),
    ("exponential", 0.15, 0.10, 0.0),
    ("exponential", 0.4, 0.10, 0.0),
    ("flat", 0.2, 0.05, 0.0),
    ("flat", 0.45, 0.05, 0.0),
    ("flat", 0.9, 0.05, 0.0),
    ("tip", 0.03, 0.11, math.log(12.0)),
)
_KIND = np.array([("tip", "exponential", "flat").index(side[0]) for side in _SIDES])
_CONSTANT = np.array([side[1] for side in _SIDES])
_PROBABILITY = np.array([side[2] for side in _SIDES])
_STEEPER = np.array([side[3] for side in _SIDES])
# Two tips whose radii differ by this log factor are less likely by exp(-1/2) than equal ones: a smooth curve has one
# curvature at its top.
_TIP_SPREAD = 0.6
# Probability that both sides are flat. A top that is flat on one side only is the end of a plateau, which is rare.
_BOTH_FLAT = 0.13


@dataclass(frozen=True)
class TwoSided:
    """Two sides that share only their top. On either side drop = a·h(u) + b·u², with u = |z|.

    h(u) = √(u² + t²) - t (a tip of radius t), an exponential exp(u/t) - 1 - u/t with h(0.5) = 0.5, or a flat top of
    half-width t that ends in a round shoulder.
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
        flat = np.outer(_KIND == 2, _KIND == 2)
        pairs = np.where(flat, _BOTH_FLAT / pairs[flat].sum(), (1 - _BOTH_FLAT) / pairs[~flat].sum()) * pairs
        return np.asarray(np.log(self.weight * pairs).ravel())

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
    flat = np.sqrt(np.maximum(u - constant, 0.0) ** 2 + constant**2 / 9) - constant / 3
    return np.where(kind == 0, np.sqrt(u * u + constant**2) - constant, np.where(kind == 1, exponential, flat))


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


FAMILIES: tuple[Family, ...] = (Tent(0.2), Parabola(0.05), Skewed(0.15), TwoSided(0.3), Cliff(0.3))
