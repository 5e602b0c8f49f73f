"""A well-specified model of a world: its curve with free parameters, and noise that is independent and normal.

No estimator that does not know the curve can be much narrower than this model, so its half-width is the measure for
others.
"""

from __future__ import annotations

import math

import numpy as np
from coverage_worlds import Array, Draw, World

from noisescale.estimate import student_quantile

# Standard deviation of the log of each parameter around the truth: a factor 3 either way.
_SPREAD = 1.1
# Beyond the ends of the ladder the optimum may lie this far away, in nats.
_REACH = 1.2
_PLACES, _STEPS, _NEGLIGIBLE = 60, 12, 8.0
_DIFFERENCE = 1e-5


def well_specified(world: World, draw: Draw) -> tuple[float, float, float, float]:
    """Return the 95 % intervals of the optimum's place and of its height.

    Args:
        world: A world that is well specified.
        draw: Its runs.

    Returns:
        The lower and upper ends of the place, then those of the height.
    """
    fit = _Fit(world, draw)
    places = np.linspace(draw.x[0] - _REACH, draw.x[-1] + _REACH, _PLACES)
    log_weight, _, _ = fit.at(places)
    near = places[log_weight > log_weight.max() - _NEGLIGIBLE]
    spacing = places[1] - places[0]
    places = np.linspace(near.min() - spacing, near.max() + spacing, _PLACES)
    log_weight, heights, variances = fit.at(places)
    weights = np.exp(log_weight - log_weight.max())
    weights /= weights.sum()
    step = places[1] - places[0]
    ends = np.concatenate([[places[0] - step / 2], places + step / 2])
    low, high = np.interp([0.025, 0.975], np.concatenate([[0.0], np.cumsum(weights)]), ends)
    mean = float(weights @ heights)
    variance = float(weights @ (variances + (heights - mean) ** 2)) + fit.level_variance
    half = student_quantile(fit.degrees_of(variance), 0.975) * math.sqrt(variance)
    return float(low), float(high), mean - half, mean + half


class _Fit:
    """Curves of a world, fitted to the cells' means at given places of the optimum."""

    def __init__(self, world: World, draw: Draw) -> None:
        self._world, self._x = world, draw.x
        seeds, cells = draw.y.shape
        self._mean = draw.y.mean(axis=0)
        by_seed = draw.y.mean(axis=1)
        residual = draw.y - self._mean - by_seed[:, None] + by_seed.mean()
        self._degrees = (seeds - 1) * (cells - 1)
        variance = float(np.sum(residual**2)) / self._degrees
        self._error, self._seeds = math.sqrt(variance / seeds), seeds
        # Variance of the seeds' common offset: it moves the height and not the place.
        self.level_variance = max(float(by_seed.var(ddof=1)) - variance / cells, 0.0) / seeds
        self._prior = np.concatenate([[self._mean.max()], np.log(world.parameters)])
        self._spread = np.concatenate([[1.0], np.full(len(world.parameters), _SPREAD)])

    def degrees_of(self, variance: float) -> float:
        """Return the degrees of freedom of the height's variance (Satterthwaite)."""
        level, rest = self.level_variance, variance - self.level_variance
        return float(variance**2 / (level**2 / (self._seeds - 1) + rest**2 / self._degrees))

    def at(self, places: Array) -> tuple[Array, Array, Array]:
        """Return the log posterior weight of each place, the height there and the variance of the height."""
        z, count = self._x - places[:, None], self._prior.size
        q, damping = np.tile(self._prior, (places.size, 1)), np.full(places.size, 1e-2)
        cells = self._x.size

        def residuals(q: Array) -> Array:
            parameters = [np.exp(q[:, k : k + 1]) for k in range(1, count)]
            inside = (self._mean - q[:, :1] - self._world.curve(z, *parameters)) / self._error
            return np.concatenate([inside, (q - self._prior) / self._spread], axis=1)

        residual = residuals(q)
        for _ in range(_STEPS):
            columns = [(residuals(q + _DIFFERENCE * unit) - residual) / _DIFFERENCE for unit in np.eye(count)]
            derivative = np.stack(columns, axis=2)
            normal = derivative.transpose(0, 2, 1) @ derivative
            gradient = (derivative.transpose(0, 2, 1) @ residual[:, :, None])[..., 0]
            diagonal = np.einsum("gpp->gp", normal)
            damped = normal + np.eye(count) * (damping[:, None] * diagonal)[:, :, None]
            step = np.clip(np.linalg.solve(damped, -gradient[:, :, None])[..., 0], -1.0, 1.0)
            new = residuals(q + step)
            better = np.sum(new**2, axis=1) <= np.sum(residual**2, axis=1)
            q, residual = np.where(better[:, None], q + step, q), np.where(better[:, None], new, residual)
            damping = np.where(better, damping * 0.3, damping * 8)
        fit = np.sum(residual[:, :cells] ** 2, axis=1)
        prior = np.sum(residual[:, cells:] ** 2, axis=1)
        log_weight = -0.5 * (self._degrees + cells) * np.log1p(fit / self._degrees) - 0.5 * prior
        log_weight -= 0.5 * np.linalg.slogdet(normal)[1]
        return np.asarray(log_weight), np.asarray(q[:, 0]), np.asarray(np.linalg.inv(normal)[:, 0, 0])
