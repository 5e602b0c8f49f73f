"""A line through points, some of them censored: Tobit likelihood and profile-likelihood intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from noisescale.estimate import two_sided

Array = NDArray[np.float64]
Profile = Callable[[Array], Array]

# Largest number of Newton steps; the log likelihood is concave, so a few usually suffice.
_NEWTON_STEPS = 25
# Grid points between the last accepted and the first rejected value, which locate an end of an interval.
_REFINEMENT = 17


class CensoredLine:
    """The maximum-likelihood line y = intercept + slope·x + N(0, τ² + error²) with censored points.

    A measured point contributes the normal density; a censored point contributes the normal probability of its side of
    the bound. The interval of a parameter contains the values whose profile log likelihood is within
    W·log(1 + t²_{W-2}/(W-2))/2 of the maximum, with W informative measured points. At this threshold the likelihood
    ratio of an ordinary regression equals its t test; χ²_1 would give too narrow an interval.

    Args:
        x: Positions, shape [points].
        y: Values, or bounds if censored, shape [points].
        error: Standard errors, shape [points].
        kind: 0 for a measured point; -1 if the true value is at or below y, 1 if at or above y; shape [points].
        count: Number W of well-determined measured points. Points with a large error do not count.

    Source:
        Tobin 1958; the threshold is the exact likelihood ratio of the normal linear model.
    """

    def __init__(self, x: Array, y: Array, error: Array, kind: NDArray[np.int64], count: int) -> None:
        self._x, self._y, self._variance, self._kind = x, y, error**2, kind
        measured = kind == 0
        self._threshold = count * math.log1p(two_sided(count - 2) ** 2 / (count - 2)) / 2
        line = np.polyfit(x[measured], y[measured], 1)
        scatter = float(np.std(y[measured] - np.polyval(line, x[measured])))
        reach = 4 * scatter + float(np.ptp(y))
        # The likelihood is nearly flat in τ. A grid search, unlike a gradient search, cannot stop at a local maximum.
        self._taus = np.concatenate([[0.0], np.geomspace(0.01, max(1.0, reach), 23)])
        self._center = float(np.mean(x[measured]))
        self._unit = max(scatter, float(np.mean(error))) / max(float(np.std(x[measured])), 1e-12)
        self.slope, self._best = self._maximize(lambda value: self._slope_profile(value)[0], float(line[0]), self._unit)
        _, self.intercept, self.spread = self._slope_profile(np.array([self.slope]), full=True)

    def profile_slope(self) -> tuple[float, float]:
        """Return the ends of the slope's profile-likelihood interval; infinite if the likelihood stays too high."""
        return self._interval(lambda value: self._slope_profile(value)[0], self.slope, self._unit)

    def profile(self, x0: float) -> tuple[float, float]:
        """Return the ends of the profile-likelihood interval of the line at x0."""
        scale = self._unit * (abs(x0 - self._center) + float(np.std(self._x)))
        value = self.intercept + self.slope * x0
        return self._interval(lambda v: self._profile(v, np.ones_like(self._x), self._x - x0)[0], value, scale)

    def _slope_profile(self, values: Array, *, full: bool = False) -> tuple[Array, float, float]:
        return self._profile(values, self._x, np.ones_like(self._x), full=full)

    def _profile(self, values: Array, known: Array, other: Array, *, full: bool = False) -> tuple[Array, float, float]:
        """Return the log likelihood, maximized over the other coefficient (by Newton steps) and over τ (on a grid)."""
        theta = np.asarray(values, dtype=np.float64)[:, None, None] * known
        sigma = np.sqrt(self._taus[:, None] ** 2 + self._variance)[None]
        measured = self._kind == 0
        weight = np.where(measured, 1 / sigma**2, 0.0)
        eta = np.sum(weight * other * (self._y - theta), axis=2) / np.sum(weight * other**2, axis=2)
        for _ in range(_NEWTON_STEPS):
            _, gradient, curvature = self._terms(theta + eta[..., None] * other, sigma)
            step = np.sum(gradient * other, axis=2) / np.sum(curvature * other**2, axis=2)
            eta = eta + np.clip(step, -2.0, 2.0)
            if np.max(np.abs(step)) < 1e-7:
                break
        likelihood = np.sum(self._terms(theta + eta[..., None] * other, sigma)[0], axis=2)
        best = np.argmax(likelihood, axis=1)
        rows = np.arange(likelihood.shape[0])
        if not full:
            return likelihood[rows, best], math.nan, math.nan
        return likelihood[rows, best], float(eta[0, best[0]]), float(self._taus[best[0]])

    def _terms(self, mean: Array, sigma: Array) -> tuple[Array, Array, Array]:
        """Return each point's log likelihood, its derivative in the mean, and minus its second derivative."""
        u = (self._y - mean) / sigma
        sign = -self._kind
        s = sign * u
        log_tail = log_ndtr(s)
        ratio = np.exp(-0.5 * s**2 - 0.5 * math.log(2 * math.pi) - log_tail)
        measured = self._kind == 0
        value = np.where(measured, -0.5 * u**2 - np.log(sigma) - 0.5 * math.log(2 * math.pi), log_tail)
        gradient = np.where(measured, u, -sign * ratio) / sigma
        curvature = np.where(measured, 1.0, ratio * (ratio + s)) / sigma**2
        return value, gradient, curvature

    def _maximize(self, function: Profile, start: float, unit: float) -> tuple[float, float]:
        """Maximize a unimodal profile by repeated refinement of a grid."""
        center, reach = start, 8 * unit
        value = -math.inf
        for _ in range(8):
            grid = center + np.linspace(-reach, reach, 17)
            heights = function(grid)
            k = int(np.argmax(heights))
            center, value = float(grid[k]), float(heights[k])
            if 0 < k < grid.size - 1:
                reach /= 8
        return center, value

    def _interval(self, function: Profile, best: float, unit: float) -> tuple[float, float]:
        ends = []
        for sign in (-1.0, 1.0):
            grid = best + sign * unit * np.concatenate([[0.0], np.geomspace(0.05, 200.0, 36)])
            inside = function(grid) >= self._best - self._threshold
            if inside.all():
                ends.append(sign * math.inf)
                continue
            k = int(np.argmin(inside))
            fine = np.linspace(grid[k - 1], grid[k], _REFINEMENT)
            depth = self._best - self._threshold - function(fine)
            j = max(int(np.argmax(depth > 0)), 1)
            share = depth[j - 1] / (depth[j - 1] - depth[j])
            ends.append(float(fine[j - 1] + share * (fine[j] - fine[j - 1])))
        return ends[0], ends[1]
