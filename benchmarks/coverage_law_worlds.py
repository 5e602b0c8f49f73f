"""Planted families of curves over width, with a known law of their optima.

log g* = Σ_j β_j·f_j(l) + τ·noise, with l the log of width/64. Each trained width has a curve of `coverage_worlds` with
its maximum at g*. The target widths, two and four times the largest trained width, have an optimum but no runs. This
module does not import the package, so that other versions can measure equal draws.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from coverage_worlds import CONSTANT, LADDERS, TOP, WORLDS, Array, World, parabola
from numpy.typing import NDArray

# Widths of the quickstart, and the noise of its runs.
WIDTHS: tuple[float, ...] = (32, 48, 64, 80, 96, 128)
NOISE = 0.007
# Widths without runs, as multiples of the largest trained width.
TARGETS = (2, 4)
# The ladder reaches this far beyond the lowest and highest optimum of the law, in nats.
_REACH = 2.0
# The slopes of the curves change as a power of width, with an exponent drawn from 0 to this, and scatter by this much
# about the power. In the quickstart they double from width 48 to width 128.
_GROWTH, _SCATTER = 0.6, 0.2
_DIFFERENCE = 1e-4

Terms = Callable[[float], tuple[float, ...]]


def straight(log_width: float) -> tuple[float, ...]:
    """Return the terms 1 and l."""
    return 1.0, log_width


def parabolic(log_width: float) -> tuple[float, ...]:
    """Return the terms 1, l and l²."""
    return 1.0, log_width, log_width**2


def saturating(middle: float, length: float) -> Terms:
    """Return the terms 1 and f, with f' = 1/(1 + exp((l - middle)/length)): an exponent that falls from 1 to 0.

    Args:
        middle: Log of width/64 at which the exponent is a half.
        length: Range over which it falls, in nats.
    """
    return lambda log_width: (1.0, -length * float(np.logaddexp(0.0, (middle - log_width) / length)))


@dataclass(frozen=True)
class LawWorld:
    """A family of curves over width.

    Args:
        curve: Curve and runs of each width; its maximum is at z = 0.
        scatter: Standard deviation τ of the optima about the law, in nats.
        terms: Terms f of the law.
        coefficients: Coefficients β of the terms after the first, which is drawn.
        widths: Trained widths.
        bends: Whether the exponent changes over the trained widths.
        knowable: Whether the trained widths contain what the targets do.
    """

    curve: World
    scatter: float
    terms: Terms = straight
    coefficients: tuple[float, ...] = (1.0,)
    widths: tuple[float, ...] = WIDTHS
    bends: bool = False
    knowable: bool = True

    @property
    def targets(self) -> tuple[float, ...]:
        """Widths without runs."""
        return tuple(factor * max(self.widths) for factor in TARGETS)

    def row(self, log_width: float) -> Array:
        """Return the terms at a log width, shape [terms]."""
        return np.array(self.terms(log_width - math.log(64)))

    def slope_row(self, log_width: float) -> Array:
        """Return the derivative of the terms at a log width, shape [terms]."""
        return (self.row(log_width + _DIFFERENCE) - self.row(log_width - _DIFFERENCE)) / (2 * _DIFFERENCE)

    def exponent(self, log_width: float) -> float:
        """Return the exponent of the law at a log width."""
        return float(self.slope_row(log_width)[1:] @ self.coefficients)

    def draw(self, generator: np.random.Generator, design: LawDesign) -> LawDraw:
        """Draw the optima and curves of all widths, and the runs of the trained ones."""
        step = math.log(LADDERS[design.ladder][0])
        widths = (*self.widths, *self.targets)
        law = {width: float(self.row(math.log(width))[1:] @ self.coefficients) for width in widths}
        ends = [law[width] for width in self.widths]
        x = np.arange(min(ends) - _REACH, max(ends) + _REACH + step, step) + step * generator.uniform(-0.5, 0.5)
        growth = generator.uniform(0, _GROWTH)
        optima, curves, tables = {}, {}, {}
        for width in widths:
            optima[width] = law[width] + self.scatter * float(generator.standard_normal())
            amplitude = math.exp(growth * math.log(width / 64) + _SCATTER * float(generator.standard_normal()))
            curves[width] = replace(self.curve, curve=_scaled(self.curve.curve, amplitude))
        for width in self.widths:
            tables[width] = curves[width].runs(generator, x - optima[width], NOISE, design.seeds)
        return LawDraw(x, optima, curves, tables)


def _scaled(curve: Callable[..., Array], amplitude: float) -> Callable[..., Array]:
    """Return a curve with steeper slopes, which does not fall below the constant predictor."""
    return lambda z, *parameters: np.maximum(amplitude * curve(z, *parameters), CONSTANT - TOP)


@dataclass(frozen=True)
class LawDesign:
    """The ladders and seeds of a draw.

    Args:
        ladder: Factor between neighbouring cells, as a key of `LADDERS`.
        seeds: Number of seeds.
    """

    ladder: str
    seeds: int


@dataclass(frozen=True)
class LawDraw:
    """The runs of several widths, and their truth.

    Args:
        x: Positions of the cells, in log g, shape [cells].
        optima: Log g of the optimum, by width.
        curves: Curve around the optimum, by width.
        tables: Metric and mask of failed runs, each of shape [seeds, cells], by trained width.
    """

    x: Array
    optima: dict[float, float]
    curves: dict[float, World]
    tables: dict[float, tuple[Array, NDArray[np.bool_]]]

    def regret(self, width: float, x: float) -> float:
        """Return the drop of the expected metric below the optimum of a width, at a position x."""
        best, there = self.curves[width].expected(np.array([0.0, x - self.optima[width]]))
        return float(best - there)


LAW_DESIGNS = tuple(LawDesign(*values) for values in itertools.product(LADDERS, (3, 10)))

_TENT = WORLDS["tent, tip 0.12"]
LAW_WORLDS: dict[str, LawWorld] = {
    **{f"tent, scatter {scatter:g}": LawWorld(_TENT, scatter) for scatter in (0.0, 0.05, 0.1, 0.2, 0.4)},
    **{kind: LawWorld(WORLDS[kind], 0.05) for kind in ("shoulder", "plateau", "cliff", "parabola")},
    **{kind: LawWorld(WORLDS[kind], 0.05) for kind in ("heavy tails", "failures anywhere")},
    "flat peaks": LawWorld(World(parabola, (0.008,)), 0.05),
    "three widths": LawWorld(_TENT, 0.1, widths=(32, 64, 128)),
    "bend of -0.1": LawWorld(_TENT, 0.05, parabolic, (1.0, -0.1), bends=True),
    "bend of 0.1": LawWorld(_TENT, 0.05, parabolic, (1.0, 0.1), bends=True),
    "saturating in two octaves": LawWorld(_TENT, 0.05, saturating(0.0, 0.3), bends=True),
    "saturating in three octaves": LawWorld(_TENT, 0.05, saturating(0.0, 0.5), bends=True),
    "saturating in five octaves": LawWorld(
        _TENT, 0.05, saturating(0.0, 0.7), widths=(8, 16, 32, 64, 128, 256), bends=True
    ),
    "bend beyond the trained widths": LawWorld(_TENT, 0.05, saturating(math.log(181 / 64), 0.1), knowable=False),
}


def law_draws(kind: str, design: LawDesign, count: int, seed: int) -> list[LawDraw]:
    """Return the draws of a kind and a design; equal in every process."""
    generator = np.random.default_rng([seed, zlib.crc32(kind.encode()), LAW_DESIGNS.index(design)])
    return [LAW_WORLDS[kind].draw(generator, design) for _ in range(count)]
