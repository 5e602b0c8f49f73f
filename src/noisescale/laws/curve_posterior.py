"""The posterior of a curve and of its optimum: many shapes at many places, each weighted by how well it fits.

For each shape and each place of the optimum, the height and the shape's parameters are fitted (Gauss-Newton with their
priors), and integrated by Laplace's method. The weights of all shapes and places are the posterior. So the uncertainty
about the shape, which the seeds do not show, is in every interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from noisescale.laws.cell_means import CellMeans
from noisescale.laws.curve_draws import CurveDraws, ShapePart
from noisescale.laws.curve_shapes import FAMILIES, Family
from noisescale.laws.place_laws import weighted_quantiles
from noisescale.laws.shape_priors import ShapeMoments, ShapePrior

Array = NDArray[np.float64]
# From heights and parameters, shape [G, 1 + P], to the normal matrix, the gradient, the fit to the cells and the
# shortfall at deep cells: shapes [G, 1 + P, 1 + P], [G, 1 + P], [G] and [G].
Likelihood = Callable[[Array], tuple[Array, Array, Array, Array]]

# Error of every shape: a share of the drop at a cell, which grows to four times as much for a cell that is nearly deep,
# and a share of the span. A shape describes the top; what lies far below says little of where the top is.
_MISFIT, _FAR_MISFIT, _FLOOR = 0.03, 0.1, 0.002
# The scale of all errors is uncertain, as if it were known from this number of degrees of freedom at most. So intervals
# widen where no shape fits.
_SCALE_DEGREES = 10.0
# Probability that the nearest deep cell says nothing about the shape (a few broken runs, for example).
_BROKEN = 0.1
# A curve should fall by the depth at a deep cell; a shortfall of this share of the depth is one standard error.
_BOUND_WIDTH = 0.15
# Beyond the ends of a ladder the optimum may lie this far away, in nats.
_REACH = 1.2
_COARSE_STEP, _FINE_PLACES, _FINEST_STEP = 0.2, 60, 0.004
# Nodes whose weight is below exp(-7) of the best do not matter.
_NEGLIGIBLE = 7.0
# A normal distribution as equally likely points, with its variance.
_NORMAL_QUANTILES = ndtri((np.arange(41) + 0.5) / 41)
_NORMAL_QUANTILES /= _NORMAL_QUANTILES.std()
# Steps of Gauss-Newton from the prior, and from the nearest place of the coarse grid.
_FIRST_STEPS, _FURTHER_STEPS = 8, 5


@dataclass(frozen=True)
class Nodes:
    """Fitted curves of one family.

    Args:
        family: The family of shapes.
        place: Place of the optimum of each curve, shape [G].
        variant: Variant of the shape, shape [G].
        parameters: Height and parameters of the shape, shape [G, 1 + P].
        precision: Precision matrix of `parameters`, shape [G, 1 + P, 1 + P].
        height: Height of each curve at its optimum, or at the end of the ladder that is nearest to it, shape [G].
        variance: Variance of `height`, shape [G].
        pull: Derivative of `height` by the cells' means, shape [G, cells].
        log_weight: Unnormalized log posterior weight, shape [G].
    """

    family: Family
    place: Array
    variant: NDArray[np.intp]
    parameters: Array
    precision: Array
    height: Array
    variance: Array
    pull: Array
    log_weight: Array


@dataclass(frozen=True)
class CurvePosterior:
    """The posterior of a curve.

    Args:
        places: Places of the optimum, evenly spaced, shape [places].
        density: Probability of each place; sums to 1, shape [places].
        nodes: Fitted curves of each family.
        weights: Probability of each node, one array for each family.
        cells: The data.
    """

    places: Array
    density: Array
    nodes: tuple[Nodes, ...]
    weights: tuple[Array, ...]
    cells: CellMeans

    def height(self, confidence: float) -> tuple[Array, float, Array]:
        """Return the height, its variance and its mean derivative by the cells' means.

        The height is a mean, and the ends of a central interval, shape [3].

        The height is that of the best place of the ladder. A curve that still rises at an end says nothing of how high
        it gets beyond.
        """
        weights = np.concatenate(self.weights)
        heights = np.concatenate([nodes.height for nodes in self.nodes])
        variances = np.concatenate([nodes.variance for nodes in self.nodes])
        mean = float(weights @ heights)
        variance = float(weights @ (variances + (heights - mean) ** 2))
        points = (heights[:, None] + np.sqrt(variances)[:, None] * _NORMAL_QUANTILES).ravel()
        tail = (1 - confidence) / 2
        shares = np.repeat(weights / _NORMAL_QUANTILES.size, _NORMAL_QUANTILES.size)
        ends = weighted_quantiles(points, shares, (tail, 1 - tail))
        pull = weights @ np.concatenate([nodes.pull for nodes in self.nodes])
        return np.array([mean, *ends]), variance, pull

    def shape_moments(self) -> tuple[ShapeMoments, ...]:
        """Return what the posterior says about the parameters of each family."""
        parts = []
        for family in FAMILIES:
            weights, mean = np.zeros(family.log_weights.size), np.zeros(family.parameters)
            variance = np.ones(family.parameters)
            for nodes, part in zip(self.nodes, self.weights, strict=True):
                if nodes.family is family and part.sum() > 0:
                    scale = math.log(self.cells.span) * np.array(family.amplitudes)
                    q = nodes.parameters[:, 1:] - scale
                    within = np.diagonal(np.linalg.inv(nodes.precision), axis1=1, axis2=2)[:, 1:]
                    shares = part / part.sum()
                    np.add.at(weights, nodes.variant, part)
                    mean = shares @ q
                    variance = shares @ (within + (q - mean) ** 2)
            parts.append(ShapeMoments(weights, mean, variance))
        return tuple(parts)

    def sample(self, count: int, generator: np.random.Generator) -> CurveDraws:
        """Draw curves.

        Args:
            count: Number K of curves.
            generator: Random generator.
        """
        totals = np.array([part.sum() for part in self.weights])
        numbers = generator.multinomial(count, totals / totals.sum())
        step = self.places[1] - self.places[0]
        places, heights, parts, first = [], [], [], 0
        for nodes, weights, number in zip(self.nodes, self.weights, numbers, strict=True):
            if not number:
                continue
            rows = generator.choice(weights.size, number, p=weights / weights.sum())
            factor = np.linalg.cholesky(np.linalg.inv(nodes.precision[rows]))
            noise = generator.standard_normal((number, factor.shape[1], 1))
            q = nodes.parameters[rows] + (factor @ noise)[..., 0]
            places.append(nodes.place[rows] + step * (generator.random(number) - 0.5))
            heights.append(q[:, 0])
            index = FAMILIES.index(nodes.family)
            parts.append(ShapePart(index, np.arange(first, first + number), nodes.variant[rows], q[:, 1:]))
            first += number
        return CurveDraws(np.concatenate(places), np.concatenate(heights), tuple(parts))


def curve_posterior(cells: CellMeans, shapes: ShapePrior | None = None) -> CurvePosterior:
    """Compute the posterior of the curve through the cells of a ladder.

    Args:
        cells: The cells.
        shapes: Prior of the shapes. Default: no curve of another width is known.

    Returns:
        The posterior.

    Source:
        Tierney and Kadane 1986 (Laplace's method for marginal densities); Hoeting et al. 1999 (averages over models).
    """
    low = cells.low if math.isfinite(cells.low) else float(cells.x[0]) - _REACH
    high = cells.high if math.isfinite(cells.high) else float(cells.x[-1]) + _REACH
    fitter = _Fitter(cells, shapes or ShapePrior())
    coarse = np.linspace(low, high, max(math.ceil((high - low) / _COARSE_STEP) + 1, 12))
    spacing = coarse[1] - coarse[0]
    first = [fitter.scan(family, coarse) for family in FAMILIES]
    best = max(float(nodes.log_weight.max()) for nodes in first)
    alive = [nodes.log_weight > best - _NEGLIGIBLE for nodes in first]
    reached = np.concatenate([nodes.place[mask] for nodes, mask in zip(first, alive, strict=True)])
    start, stop = max(reached.min() - spacing, low), min(reached.max() + spacing, high)
    step = max((stop - start) / _FINE_PLACES, _FINEST_STEP)
    places = np.arange(start + step / 2, stop, step)
    fine = []
    for nodes, mask in zip(first, alive, strict=True):
        chosen, variants, starts = [], [], []
        for variant in np.unique(nodes.variant[mask]):
            rows = np.flatnonzero(mask & (nodes.variant == variant))
            distance = np.abs(places[:, None] - nodes.place[rows])
            near = distance.min(axis=1) <= spacing
            chosen.append(places[near])
            variants.append(np.full(int(near.sum()), variant))
            starts.append(nodes.parameters[rows[distance.argmin(axis=1)[near]]])
        if chosen:
            fine.append(
                fitter.refine(nodes.family, np.concatenate(chosen), np.concatenate(variants), np.concatenate(starts))
            )
    best = max(float(nodes.log_weight.max()) for nodes in fine)
    weights = [np.exp(nodes.log_weight - best) for nodes in fine]
    total = sum(float(part.sum()) for part in weights)
    weights = [part / total for part in weights]
    density = np.zeros(places.size)
    for nodes, part in zip(fine, weights, strict=True):
        np.add.at(density, np.rint((nodes.place - places[0]) / step).astype(int), part)
    return CurvePosterior(places, density, tuple(fine), tuple(weights), cells)


class _Fitter:
    """Fits the curves of a family to the cells, many at once."""

    def __init__(self, cells: CellMeans, shapes: ShapePrior) -> None:
        self._cells, self._shapes = cells, shapes
        self._log_weights = [shapes.log_weights(index) for index in range(len(FAMILIES))]
        best = float(cells.mean.max())
        drop = best - cells.mean
        share = _MISFIT + _FAR_MISFIT * (drop / cells.depth) ** 2
        error = (share * drop) ** 2 + (_FLOOR * cells.span) ** 2
        factor = np.linalg.cholesky(cells.covariance + np.diag(error))
        self._whiten = np.linalg.inv(factor)
        self._best = best
        self._deep = np.array([x for x in (cells.low, cells.high) if math.isfinite(x)])
        self._depth = cells.depth
        self._ends = ((0, cells.low), (-1, cells.high))

    def scan(self, family: Family, places: Array) -> Nodes:
        """Fit every variant at every place, without the deep cells."""
        variants = family.log_weights.size
        place, variant = np.repeat(places, variants), np.tile(np.arange(variants), places.size)
        return self._fit(family, place, variant, None, np.empty(0), 0.0)

    def refine(self, family: Family, place: Array, variant: NDArray[np.intp], start: Array) -> Nodes:
        """Fit the curve of each (place, variant), with and without the bound that the deep cells give."""
        free = self._fit(family, place, variant, start, np.empty(0), 0.0)
        if not self._deep.size:
            return free
        drop, _ = family.drops(self._deep - place[:, None], variant)(free.parameters[:, 1:])
        # A curve that falls far enough by itself is the same with the bound.
        short = np.flatnonzero((drop < self._depth).any(axis=1))
        if not short.size:
            return free
        free.log_weight[short] += math.log(_BROKEN)
        bounded = self._fit(
            family, place[short], variant[short], free.parameters[short], self._deep, math.log(1 - _BROKEN)
        )
        return Nodes(
            family,
            np.concatenate([free.place, bounded.place]),
            np.concatenate([free.variant, bounded.variant]),
            np.concatenate([free.parameters, bounded.parameters]),
            np.concatenate([free.precision, bounded.precision]),
            np.concatenate([free.height, bounded.height]),
            np.concatenate([free.variance, bounded.variance]),
            np.concatenate([free.pull, bounded.pull]),
            np.concatenate([free.log_weight, bounded.log_weight]),
        )

    def _fit(
        self,
        family: Family,
        place: Array,
        variant: NDArray[np.intp],
        start: Array | None,
        deep: Array,
        log_prior: float,
    ) -> Nodes:
        cells, curves = self._cells, place.size
        index = FAMILIES.index(family)
        means, spreads = self._shapes.parameters(index, variant, cells.span)
        means = np.concatenate([np.full((curves, 1), self._best), means], axis=1)
        spreads = np.concatenate([np.full((curves, 1), cells.span), spreads], axis=1)
        terms = None if deep.size else family.terms(cells.x - place[:, None], variant)
        likelihood = self._curved(family, place, variant, deep) if terms is None else self._summed(terms)
        diagonal = np.arange(means.shape[1])
        q, damping = (means if start is None else start).copy(), np.full(curves, 1e-2)
        normal, gradient, fit, rest = likelihood(q)
        rest = rest + np.sum(((q - means) / spreads) ** 2, axis=1)
        for _ in range(_FIRST_STEPS if start is None else _FURTHER_STEPS):
            damped = normal.copy()
            damped[:, diagonal, diagonal] += spreads**-2
            damped[:, diagonal, diagonal] *= 1 + damping[:, None]
            step = np.linalg.solve(damped, (gradient - (q - means) / spreads**2)[:, :, None])[..., 0]
            step[:, 1:] = np.clip(step[:, 1:], -1.5, 1.5)
            new = likelihood(q + step)
            new_rest = new[3] + np.sum(((q + step - means) / spreads) ** 2, axis=1)
            better = new[2] + new_rest <= fit + rest
            gain = np.where(better, fit + rest - new[2] - new_rest, 0.0)
            q = np.where(better[:, None], q + step, q)
            normal = np.where(better[:, None, None], new[0], normal)
            gradient = np.where(better[:, None], new[1], gradient)
            fit, rest = np.where(better, new[2], fit), np.where(better, new_rest, rest)
            damping = np.where(better, damping * 0.3, damping * 8)
            if float(gain[better | (damping < 1e2)].max(initial=0.0)) < 1e-3 and bool(np.all(better | (damping > 1e2))):
                break
        precision = normal
        precision[:, diagonal, diagonal] += spreads**-2
        count = cells.x.size
        height, toward = self._height(family, place, variant, q)
        spread = np.linalg.solve(precision, toward[:, :, None])
        _, slopes = family.drops(cells.x - place[:, None], variant)(q[:, 1:])
        moved = spread[:, :1, 0] - (slopes @ spread[:, 1:])[..., 0]
        pull = np.asarray(moved @ self._whiten.T @ self._whiten, dtype=np.float64)
        # The scale of the errors is estimated, which turns the normal likelihood into a Student t.
        degrees = min(cells.degrees, _SCALE_DEGREES)
        log_weight = (
            -0.5 * (degrees + count) * np.log1p(fit / degrees)
            - 0.5 * rest
            - 0.5 * np.linalg.slogdet(precision)[1]
            - np.sum(np.log(spreads[:, 1:]), axis=1)
            + self._log_weights[index][variant]
            + log_prior
        )
        variance = np.sum(toward * spread[..., 0], axis=1)
        return Nodes(family, place, variant, q, precision, height, variance, pull, log_weight)

    def _summed(self, terms: Array) -> Likelihood:
        """Return the likelihood of curves whose drop is Σ terms·exp(parameter), from inner products of the terms."""
        curves, count, _ = terms.shape
        whole = np.broadcast_to(self._whiten.sum(axis=1)[:, None], (curves, count, 1))
        columns = np.concatenate([whole, -(self._whiten @ terms)], axis=2)
        target = self._whiten @ (self._cells.mean - self._best)
        products, toward = columns.transpose(0, 2, 1) @ columns, target @ columns
        square, nothing = float(target @ target), np.zeros(curves)

        def evaluate(q: Array) -> tuple[Array, Array, Array, Array]:
            factors = np.concatenate([q[:, :1] - self._best, np.exp(q[:, 1:])], axis=1)
            rest = toward - (products @ factors[:, :, None])[..., 0]
            fit = np.maximum(square - np.sum(factors * (toward + rest), axis=1), 0.0)
            factors[:, 0] = 1.0
            return products * factors[:, :, None] * factors[:, None], rest * factors, fit, nothing

        return evaluate

    def _curved(self, family: Family, place: Array, variant: NDArray[np.intp], deep: Array) -> Likelihood:
        """Return the likelihood of any curves, with the bound that deep cells give."""
        cells, curves, count = self._cells, place.size, self._cells.x.size
        drops = family.drops(np.concatenate([cells.x, deep]) - place[:, None], variant)
        width = _BOUND_WIDTH * self._depth
        ones = np.ones((curves, count, 1))

        def evaluate(q: Array) -> tuple[Array, Array, Array, Array]:
            drop, gradient = drops(q[:, 1:])
            residual = (cells.mean - q[:, :1] + drop[:, :count]) @ self._whiten.T
            derivative = self._whiten @ np.concatenate([ones, -gradient[:, :count]], axis=2)
            fit, rest = np.sum(residual**2, axis=1), np.zeros(curves)
            if deep.size:
                # A deep cell only says that the curve has fallen at least this far.
                short = np.maximum(self._depth - drop[:, count:], 0.0) / width
                rest = np.sum(short**2, axis=1)
                below = np.concatenate([np.zeros((curves, deep.size, 1)), gradient[:, count:]], axis=2) / width
                residual = np.concatenate([residual, short], axis=1)
                derivative = np.concatenate([derivative, below * (short > 0)[:, :, None]], axis=1)
            transposed = derivative.transpose(0, 2, 1)
            return transposed @ derivative, (transposed @ residual[:, :, None])[..., 0], fit, rest

        return evaluate

    def _height(self, family: Family, place: Array, variant: NDArray[np.intp], q: Array) -> tuple[Array, Array]:
        """Return the height of each curve within the ladder, and its derivatives by the parameters."""
        low, high = (self._cells.x[end] if math.isinf(bound) else bound for end, bound in self._ends)
        toward = np.zeros_like(q)
        toward[:, 0] = 1.0
        height = q[:, 0].copy()
        outside = np.flatnonzero((place < low) | (place > high))
        if outside.size:
            z = np.clip(place[outside], low, high) - place[outside]
            drop, gradient = family.drops(z[:, None], variant[outside])(q[outside, 1:])
            height[outside] -= drop[:, 0]
            toward[outside, 1:] = -gradient[:, 0]
        return height, toward
