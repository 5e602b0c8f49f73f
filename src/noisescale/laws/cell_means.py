"""The cells of a ladder as data for a curve: means over seeds that resist outliers, and the covariance of their errors.

A cell is a position of a ladder, measured by several seeds. The seeds are paired over cells: a seed that is better in
one cell tends to be better in all, which moves the height of a curve but not the place of its optimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import student_quantile

Array = NDArray[np.float64]

# A value further from its cell's median than this number of standard deviations counts as if it were there.
_WINSOR = 3.5
# The variance of a cell is its sample variance, shrunk towards that of similar cells, which counts as this many seeds.
_SHARED_SEEDS = 6.0
# Cells are alike if their drops below the best differ by less than this share of the span.
_ALIKE = 0.03
# Correlations between the residuals of cells a factor √2 apart that are compared. The prior exp(-3ρ²) prefers none.
_CORRELATIONS = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
_STEP = math.log(math.sqrt(2))
# A cell further below the best than this share of the span, and than this number of standard errors, says where
# training fails, not where the peak is.
_DEEP, _CLEARLY = 0.25, 8.0


@dataclass(frozen=True)
class CellMeans:
    """The cells near the top of a ladder, as data for a curve.

    Args:
        x: Positions of the cells near the top, shape [cells].
        mean: Mean of each cell without the seeds' common differences, outliers drawn in, shape [cells].
        covariance: Covariance of the errors of `mean`, shape [cells, cells].
        adjusted: Value of each seed in each cell, outliers drawn in, missing runs filled with the cell's mean plus the
            seed's difference,
            shape [seeds, cells].
        seed_deviation: Standard deviation of the seeds' common difference.
        degrees: Degrees of freedom of the covariance.
        low: Position below which the optimum cannot lie; minus infinity if the lowest cell is near the top.
        high: Position above which the optimum cannot lie; infinity if the highest cell is near the top.
        depth: Distance from the best cell beyond which a cell is deep.
        span: Span of the metric.
    """

    x: Array
    mean: Array
    covariance: Array
    adjusted: Array
    seed_deviation: float
    degrees: float
    low: float
    high: float
    depth: float
    span: float


def cell_means(x: Array, y: Array, span: float) -> CellMeans:
    """Summarize a table of seeds and cells.

    Args:
        x: Increasing positions, shape [cells].
        y: Metric to maximize, NaN where a run failed or is missing, shape [seeds, cells].
        span: Span of the metric.

    Returns:
        The cells near the best, with the two nearest deep cells as bounds of the optimum.
    """
    measured = np.isfinite(y).any(axis=0)
    center = np.full(x.size, -math.inf)
    center[measured] = np.nanmedian(y[:, measured], axis=0)
    scatter = y[:, measured] - center[measured]
    depth = max(_DEEP * span, _CLEARLY * 1.4826 * float(np.nanmedian(np.abs(scatter))) / math.sqrt(y.shape[0]))
    near = np.flatnonzero(center > center.max() - depth)
    table = y[:, near]
    seeds, cells = table.shape
    counts = np.isfinite(table).sum(axis=0)
    difference = np.zeros(seeds)
    if seeds > 1:
        with np.errstate(invalid="ignore"):
            residual = table - np.nanmean(table, axis=0)
        present = np.isfinite(residual).any(axis=1)
        difference[present] = np.nanmedian(residual[present], axis=1)
        difference -= difference.mean()
    adjusted = table - difference[:, None]
    middle = np.nanmedian(adjusted, axis=0)
    widened = seeds / max(seeds - 1, 1)
    squared_deviation = (1.4826 * np.nanmedian(np.abs(adjusted - middle), axis=0)) ** 2 * widened
    alike = _alike(middle.max() - middle, _ALIKE * span + 3 * math.sqrt(float(np.median(squared_deviation))))
    limit = _WINSOR * np.maximum(np.sqrt(alike @ squared_deviation / alike.sum(axis=1)), 1e-12 * span)
    drawn_in = np.clip(adjusted - middle, -limit, limit)
    offset = np.nanmean(drawn_in, axis=0)
    residuals = np.nan_to_num(drawn_in - offset)
    squares = np.sum(residuals**2, axis=0)
    shared = alike @ squares / np.maximum(alike @ (counts - 1.0), 1e-9)
    variance = (_SHARED_SEEDS * shared + squares) / (_SHARED_SEEDS + counts - 1)
    variance = np.maximum(variance, (1e-9 * span) ** 2)
    correlation = _correlation(residuals / np.sqrt(variance), x[near])
    error = np.sqrt(variance / counts)
    mean = middle + offset
    shifted = _shift_covariance(x[near], mean, residuals)
    filled = np.where(np.isfinite(table), middle + drawn_in, mean) + difference[:, None]
    first, last = int(near[0]), int(near[-1])
    return CellMeans(
        x=x[near],
        mean=mean,
        covariance=error[:, None] * correlation * error + shifted,
        adjusted=filled,
        seed_deviation=float(difference.std(ddof=1)) if seeds > 1 else 0.0,
        degrees=max(float(np.sum(counts - 1)) - (seeds - 1), 2.0),
        low=float(x[first - 1]) if first else -math.inf,
        high=float(x[last + 1]) if last + 1 < x.size else math.inf,
        depth=depth,
        span=span,
    )


def _alike(drop: Array, scale: float) -> Array:
    """Return how far cells share a variance, by the difference of their drops below the best, shape [cells, cells].

    Seeds differ by more where training is slow or breaks down than near the top.
    """
    return np.asarray(np.exp(-0.5 * ((drop[:, None] - drop) / scale) ** 2))


def _shift_covariance(x: Array, mean: Array, residuals: Array) -> Array:
    """Return the covariance of the means from shifts of the optimum between seeds.

    A seed whose optimum lies at a distance δ from the others' has residuals -δ·f'. The variance of δ is that of its
    least-squares estimates, minus what the noise of the cells gives.
    """
    seeds, cells = residuals.shape
    if seeds < 2 or cells < 4:
        return np.zeros((cells, cells))
    slope = np.gradient(mean, x)
    centered = slope - slope.mean()
    square = float(centered @ centered)
    if square <= 0:
        return np.zeros((cells, cells))
    shifts = residuals @ centered / square
    rest = residuals - residuals.mean(axis=1, keepdims=True) - np.outer(shifts, centered)
    noise = float(np.sum(rest**2)) / ((seeds - 1) * (cells - 2))
    variance = max(float(shifts @ shifts) / (seeds - 1) - noise / square, 0.0)
    # So few shifts have the tails of Student's t, which the covariance of a normal error must make up for.
    tails = student_quantile(seeds - 1, 0.975) / student_quantile(math.inf, 0.975)
    return np.asarray(tails**2 * variance / seeds * np.outer(slope, slope))


def _correlation(z: Array, x: Array) -> Array:
    """Return the correlation ρ^(distance in steps of √2) of the cells, averaged over the restricted likelihood of ρ."""
    seeds, cells = z.shape
    distance = np.abs(x[:, None] - x) / _STEP
    if seeds < 2 or cells < 3:
        return np.eye(cells)
    likelihoods = []
    for rho in _CORRELATIONS:
        matrix = (rho**distance if rho else np.eye(cells)) + 1e-9 * np.eye(cells)
        factor = np.linalg.cholesky(matrix)
        constant = np.linalg.solve(factor, np.ones(cells))
        white = np.linalg.solve(factor, z.T)
        square = float(constant @ constant)
        rest = float(np.sum((white - np.outer(constant, constant @ white) / square) ** 2))
        degrees = (seeds - 1) * (cells - 1)
        volume = float(np.sum(np.log(np.diag(factor)))) + 0.5 * math.log(square)
        likelihoods.append(-0.5 * degrees * math.log(max(rest, 1e-12)) - (seeds - 1) * volume - 3 * rho**2)
    weights = np.exp(np.array(likelihoods) - max(likelihoods))
    rho = float(weights @ _CORRELATIONS / weights.sum())
    return np.asarray(rho**distance) if rho > 1e-3 else np.eye(cells)
