"""Power laws of an optimum's place over width and other axes, from the posterior of the place at each setting.

log q = a + Σ_k (b_k·l_k + c_k·l_k²) + τ·noise, with l_k the log of axis k from its middle. The exponent b_k is what a
power law has; the curvature c_k lets it bend; τ is the scatter of the settings about the law. All are estimated, and
all enter predictions. Each setting contributes the whole posterior of its place, so that bounds, vague optima and
optima with two peaks need no special case.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from noisescale.estimate import CONFIDENCE

Array = NDArray[np.float64]

# Priors. In 16 ladders of a public table (two parameterizations of an MLP on CIFAR-10 at six widths, eight horizons;
# Yang et al. 2021) curvatures lie between -0.06 and 0.05 per nat², and scatters between 0.01 and 0.2 nats, with medians
# 0.02 and 0.05. That is a nearly straight law. A law that saturates bends: its exponent falls from 1 to 0 over a few
# octaves, which is a curvature of -0.1 to -0.3. One data set does not say how often laws bend, so both are as likely.
STRAIGHT, BENT, BENT_PROBABILITY = 0.02, 0.15, 0.5
# The logarithm of the scatter has a uniform prior, as Jeffreys 1961 proposes for a scale. It fits the table, where a
# tenth of the scatters is below 0.014, half below 0.05 and nine tenths below 0.15. Here it reaches further, to a factor
# e: a prior that ends at the scatters of one table would hide a larger scatter where widths are few.
SCATTERS = np.geomspace(0.01, 1.0, 11)
# Spread of the curvature and its probability. A steeper law may bend far more than those of the table. Without the last
# row, its bend would count as scatter.
_BENDS = (
    (STRAIGHT, 1 - BENT_PROBABILITY),
    (BENT, 0.85 * BENT_PROBABILITY),
    (4 * BENT, 0.15 * BENT_PROBABILITY),
)
# Exponents of optima lie between -1 and 1 in all parameterizations.
_EXPONENT_SPREAD = 1.0
_DRAWS = 250
# The proposals of the importance sampler are wider than the normal approximation, with Student's t tails.
_WIDER, _PROPOSAL_DEGREES = 1.3, 5.0
_STEP, _MARGIN = 0.01, 4.0
# Points of the normal scatter for each draw of a law, one in each of as many ranges of equal probability.
_STRATA = 3


@dataclass(frozen=True, eq=False)
class PlaceDensity:
    """The likelihood of an optimum's place at one setting.

    Args:
        places: Evenly spaced places, in nats, shape [places].
        density: Likelihood of each place, shape [places].
        open_low: Whether the optimum may lie below the trained range, however far.
        open_high: Whether the optimum may lie above the trained range, however far.
    """

    places: Array
    density: Array
    open_low: bool
    open_high: bool

    def on(self, grid: Array) -> Array:
        """Return the likelihood on a grid; beyond an open end it stays what it is there."""
        step = float(self.places[1] - self.places[0])
        low = float(self.density[0]) if self.open_low else 0.0
        high = float(self.density[-1]) if self.open_high else 0.0
        return np.asarray(np.interp(grid, self.places, self.density / step, left=low / step, right=high / step))

    def quantile(self, probability: float) -> float:
        """Return a quantile of the place within the trained range."""
        step = self.places[1] - self.places[0]
        ends = np.concatenate([[self.places[0] - step / 2], self.places + step / 2])
        shares = np.concatenate([[0.0], np.cumsum(self.density)]) / self.density.sum()
        return float(np.interp(probability, shares, ends))

    def mapped(self, function: Callable[[float], float]) -> PlaceDensity:
        """Return the likelihood of a monotone function of the place, on an even grid of as many points."""
        values = np.array([function(float(place)) for place in self.places])
        order = np.argsort(values)
        per_nat = self.density / np.abs(np.gradient(values))
        grid = np.linspace(values[order[0]], values[order[-1]], values.size)
        density = np.interp(grid, values[order], per_nat[order])
        falling = bool(values[-1] < values[0])
        ends = (self.open_high, self.open_low) if falling else (self.open_low, self.open_high)
        return PlaceDensity(grid, density / density.sum(), *ends)

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance of the place within the trained range."""
        weights = self.density / self.density.sum()
        mean = float(weights @ self.places)
        return mean, float(weights @ (self.places - mean) ** 2)


@dataclass(frozen=True, eq=False)
class PlaceLaw:
    """The posterior of a law, as weighted draws.

    Args:
        axes: Names of the axes.
        middles: Mean log of each axis, shape [axes].
        coefficients: a, then b and c of each axis, shape [draws, 1 + 2·axes].
        scatter: τ of each draw, shape [draws].
        weights: Probability of each draw, shape [draws].
        effective: Effective number of draws; small if the sampler failed.
    """

    axes: tuple[str, ...]
    middles: Array
    coefficients: Array
    scatter: Array
    weights: Array
    effective: float

    def values(self, logs: Mapping[str, float]) -> Array:
        """Return the law's log value at a setting, one for each draw."""
        return np.asarray(self.coefficients @ _row(np.array([logs[axis] for axis in self.axes]) - self.middles))

    def at(self, axis: str, log: float) -> PlaceLaw:
        """Return the law over the other axes at a value of one axis.

        Args:
            axis: Name of the axis.
            log: Log of its value.
        """
        index = self.axes.index(axis)
        rest = [k for k in range(len(self.axes)) if k != index]
        columns = [0, *(column for k in rest for column in (1 + 2 * k, 2 + 2 * k))]
        coefficients = self.coefficients[:, columns].copy()
        distance = log - self.middles[index]
        coefficients[:, 0] += distance * self.coefficients[:, 1 + 2 * index]
        coefficients[:, 0] += distance**2 * self.coefficients[:, 2 + 2 * index]
        names = tuple(self.axes[k] for k in rest)
        return PlaceLaw(names, self.middles[rest], coefficients, self.scatter, self.weights, self.effective)

    def draws(self, logs: Mapping[str, float], rows: NDArray[np.intp], generator: np.random.Generator) -> Array:
        """Return the optimum of a setting in draws of the law, with its scatter.

        Args:
            logs: Log of each axis.
            rows: Which draws of the law, shape [rows].
            generator: Random generator of the scatter.

        Returns:
            The log optimum, shape [rows].
        """
        return np.asarray(self.values(logs)[rows] + self.scatter[rows] * generator.standard_normal(rows.size))

    def predicted(self, logs: Mapping[str, float], *, new: bool = True, confidence: float = CONFIDENCE) -> Array:
        """Return the median and the ends of the interval at a setting.

        Args:
            logs: Log of each axis.
            new: True for the optimum of a setting that was not trained, which scatters about the law.
            confidence: Level of the interval.

        Returns:
            Median, lower and upper end of the log optimum, shape [3].
        """
        values, weights = self.values(logs), self.weights
        if new:
            shifts = np.random.default_rng(0).random((values.size, _STRATA))
            noise = ndtri((np.arange(_STRATA) + shifts) / _STRATA)
            values = (values[:, None] + self.scatter[:, None] * noise).ravel()
            weights = np.repeat(weights / _STRATA, _STRATA)
        tail = (1 - confidence) / 2
        return weighted_quantiles(values, weights, (0.5, tail, 1 - tail))

    def exponent(self, logs: Mapping[str, float], axis: str) -> tuple[float, float, float]:
        """Return the median and the ends of the interval of an axis' exponent at a setting: b + 2·c·l."""
        index = self.axes.index(axis)
        linear, bent = self.coefficients[:, 1 + 2 * index], self.coefficients[:, 2 + 2 * index]
        values = linear + 2 * (logs[axis] - self.middles[index]) * bent
        tail = (1 - CONFIDENCE) / 2
        middle, low, high = weighted_quantiles(values, self.weights, (0.5, tail, 1 - tail))
        return float(middle), float(low), float(high)

    def parameter(self, index: int) -> tuple[float, float, float, float]:
        """Return the median, the ends of the interval and the standard deviation of a coefficient."""
        values = self.coefficients[:, index]
        tail = (1 - CONFIDENCE) / 2
        middle, low, high = weighted_quantiles(values, self.weights, (0.5, tail, 1 - tail))
        mean = float(self.weights @ values)
        return middle, low, high, math.sqrt(float(self.weights @ (values - mean) ** 2))


def place_law(
    axes: Mapping[str, Array],
    densities: Sequence[PlaceDensity],
    seed: int = 0,
    bend_factor: float = 1.0,
    exponents: Mapping[str, tuple[float, float]] | None = None,
) -> PlaceLaw:
    """Compute the posterior of the law through optima.

    Args:
        axes: Log of each axis at each setting, by name, each of shape [settings].
        densities: Likelihood of the place at each setting.
        seed: Seed of the sampler.
        bend_factor: Factor on the spread of the curvature's prior, to see how far an answer depends on it.
        exponents: Mean and standard deviation of the prior of an axis' exponent, by name. Default: 0 and 1.

    Returns:
        The law.

    Source:
        Importance sampling around the weighted least-squares fit at each scatter; coverage in
        `benchmarks/coverage.py`.
    """
    generator = np.random.default_rng(seed)
    logs = np.stack([np.asarray(values, dtype=np.float64) for values in axes.values()], axis=1)
    middles = logs.mean(axis=0)
    design = np.array([_row(row) for row in logs - middles])
    moments = np.array([density.moments for density in densities])
    mean, variance = moments[:, 0], moments[:, 1]
    grid = np.arange(
        min(density.places[0] for density in densities) - _MARGIN,
        max(density.places[-1] for density in densities) + _MARGIN,
        _STEP,
    )
    likelihoods = np.array([density.on(grid) for density in densities])
    spectrum = np.fft.rfft(likelihoods, n=2 * grid.size, axis=1)
    frequency = 2 * math.pi * np.fft.rfftfreq(2 * grid.size, d=_STEP)
    count = design.shape[1]
    linear, bent = np.arange(1, count, 2), np.arange(2, count, 2)
    expected, around = np.array([(exponents or {}).get(axis, (0.0, _EXPONENT_SPREAD)) for axis in axes]).T
    draws, log_weights, scatters = [], [], []
    for tau, (usual_spread, share) in itertools.product(SCATTERS, _BENDS):
        spread = bend_factor * usual_spread
        prior = np.zeros(count)
        prior[0], prior[linear], prior[bent] = 1e-4, around**-2, spread**-2
        pull = np.zeros(count)
        pull[linear] = expected * around**-2
        smoothed = np.fft.irfft(spectrum * np.exp(-0.5 * (frequency * tau) ** 2), axis=1)[:, : grid.size]
        logs_of_likelihood = np.log(np.maximum(smoothed, 1e-12))
        weight = 1 / (variance + tau**2)
        precision = design.T @ (weight[:, None] * design) + np.diag(prior)
        center = np.linalg.solve(precision, design.T @ (weight * mean) + pull)
        factor = _WIDER * np.linalg.cholesky(np.linalg.inv(precision))
        z = generator.standard_normal((_DRAWS, count))
        z /= np.sqrt(generator.chisquare(_PROPOSAL_DEGREES, (_DRAWS, 1)) / _PROPOSAL_DEGREES)
        theta = center + z @ factor.T
        proposal = -0.5 * (_PROPOSAL_DEGREES + count) * np.log1p(np.sum(z**2, axis=1) / _PROPOSAL_DEGREES)
        proposal -= float(np.sum(np.log(np.diag(factor))))
        lines = theta @ design.T
        target = sum(np.interp(lines[:, k], grid, logs_of_likelihood[k]) for k in range(len(densities)))
        target = target - 0.5 * np.sum(((theta[:, linear] - expected) / around) ** 2, axis=1)
        target -= np.sum(0.5 * (theta[:, bent] / spread) ** 2 + math.log(spread), axis=1)
        target += math.log(share)
        draws.append(theta)
        scatters.append(np.full(_DRAWS, tau))
        log_weights.append(target - proposal)
    together = np.concatenate(log_weights)
    weights = np.exp(together - together.max())
    weights /= weights.sum()
    effective = float(1 / np.sum(weights**2))
    return PlaceLaw(tuple(axes), middles, np.concatenate(draws), np.concatenate(scatters), weights, effective)


def _row(logs: Array) -> Array:
    """Return 1, then l and l² of each axis."""
    return np.concatenate([[1.0], np.stack([logs, logs**2], axis=1).ravel()])


def weighted_quantiles(values: Array, weights: Array, probabilities: Sequence[float]) -> Array:
    """Return quantiles of weighted draws."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order]) - weights[order] / 2
    return np.asarray(np.interp(probabilities, cumulative / weights.sum(), values[order]))
