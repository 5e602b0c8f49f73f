"""The price of a larger learning rate: how far the metric drops near the stability edge, at equal noise.

A larger rate with a larger batch keeps the noise scale and needs fewer steps, but it costs some of the metric. How much
depends on the share s of the stability edge that the rate takes: the price is A·(s/½)^k, and the posterior of A and k
comes from cells at a few shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from noisescale.estimate import Estimate, exact, no_estimate
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.interval import mean_over_seeds
from noisescale.training import METRICS

Array = NDArray[np.float64]

# The prior is a measurement of this project on MNIST-1D, at equal noise and equal ε·steps with ten seeds: a share of
# 0.28 to 0.35 cost nothing (-0.3 to 0.2 points of accuracy), 0.38 to 0.44 cost 0.7 to 0.85, 0.53 cost 1.4 and 2.8, and
# at least 0.69 cost 8 to 16. So k is about 4.3, and A is about 1.9 of the 56 points between a constant predictor and
# the best cell. Other problems may differ, so the priors are wide: 95 % of A lies within a factor of 19 either way, and
# 95 % of k between 1.4 and 7.2.
_SPAN_SHARE, _SPAN_SHARE_SPREAD = 0.034, 1.5
_EXPONENT, _EXPONENT_SPREAD = 4.3, 1.5
# The grid of the posterior. A is a share of the span, up to the whole span.
_SPAN_SHARES = np.exp(np.linspace(math.log(1e-4), 0.0, 93))
_EXPONENTS = np.linspace(1.0, 9.0, 33)
# The prior of the seeds' noise counts as one degree of freedom at this share of the span.
_NOISE_SHARE = 0.01

HALF = 0.5
_CURVE = "A·(s/½)^k at the share s of the stability edge, at equal noise"
# Relative tolerance for comparing a share with the largest measured share.
_ROUNDING = 1e-9


@plain_dataclass(frozen=True)
class PriceCell:
    """One cell that measures the price of a larger rate.

    Args:
        share: Share of the stability edge that the rate takes at this batch size. Its interval is that of the edge.
        learning_rate: Learning rate ε.
        batch_size: Batch size B, in examples.
        steps: Training budget, in steps.
        drop: How much worse the test metric is than in the cell with the smallest share, in the metric's unit, paired
            over seeds. It is exactly 0 for that cell. A failed run counts as the constant predictor.
        seeds: Number of seeds.
        failures: Number of seeds that diverged or collapsed.
    """

    share: Estimate
    learning_rate: float
    batch_size: float
    steps: int
    drop: Estimate
    seeds: int
    failures: int


@plain_dataclass(frozen=True, eq=False)
class PricePosterior:
    """The posterior of the curve A·(s/½)^k on a grid.

    Args:
        at_half: A at each grid point, in the metric's unit, shape [grid].
        exponents: k at each grid point, shape [grid].
        weights: Probability of each grid point, shape [grid].
    """

    at_half: Array
    exponents: Array
    weights: Array


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class RatePrice:
    """The price of a larger learning rate at equal noise, measured at the largest width.

    Args:
        cells: The cells, in increasing order of the share of the edge; empty if nothing was measured.
        reason: The reason why nothing was measured; empty if the price was measured.
        largest_share: Largest share of the edge at which the price is known: that of the last cell before the first in
            which more seeds fail than at the smallest share. NaN if nothing was measured.
        at_half: A, the price at half of the stability edge, in the metric's unit.
        exponent: Exponent k.
        posterior: Posterior of A and k; None if nothing was measured. It is left out of the JSON form.
    """

    cells: tuple[PriceCell, ...]
    reason: str
    largest_share: float
    at_half: Estimate
    exponent: Estimate
    posterior: PricePosterior | None = Field(exclude=True, repr=False)

    def mean(self, share: Array) -> Array:
        """Return the expected price of taking shares of the stability edge.

        Args:
            share: Shares of the edge, shape [points].

        Returns:
            How much worse the metric is than at a small share (0.2 or less), in the metric's unit, shape [points]. It
            is infinite above `largest_share`, because the curve is not extrapolated, and if nothing was measured.
        """
        if self.posterior is None:
            return np.full(np.shape(share), np.inf)
        prices = self.posterior.weights @ self._curves(share, self.posterior.at_half, self.posterior.exponents)
        return self._with_limit(share, prices)

    def draws(self, share: Array, count: int, generator: np.random.Generator) -> Array:
        """Draw curves of the price from the posterior.

        Args:
            share: Shares of the edge, shape [points].
            count: Number of draws.
            generator: Source of the random numbers.

        Returns:
            Prices as in `mean`, shape [count, points].
        """
        posterior = self.posterior
        if posterior is None:
            return np.full((count, *np.shape(share)), np.inf)
        rows = generator.choice(posterior.weights.size, count, p=posterior.weights)
        return self._with_limit(share, self._curves(share, posterior.at_half[rows], posterior.exponents[rows]))

    def _curves(self, share: Array, at_half: Array, exponents: Array) -> Array:
        """Return A·(s/½)^k for each pair (A, k) and share, shape [pairs, points]."""
        # Larger shares have an infinite price. Clipping avoids an overflow there.
        measured = np.clip(np.nan_to_num(share), 0.0, self.largest_share)
        return np.asarray(at_half[:, None] * (measured / HALF) ** exponents[:, None])

    def _with_limit(self, share: Array, prices: Array) -> Array:
        return np.where(np.asarray(share) <= self.largest_share * (1 + _ROUNDING), prices, np.inf)


def rate_price(
    runs: pd.DataFrame, edge_at: Callable[[float], EdgeByBatch | None], metric: str, unit: str
) -> RatePrice | None:
    """Estimate the price of a larger learning rate from the cells that measure it.

    Args:
        runs: The runs of these cells in one group, one row each, with the column `diverged_or_collapsed`.
        edge_at: Returns the stability edge at a measured width, or None.
        metric: Name of the metric.
        unit: Unit of the metric.

    Returns:
        The price at the largest width with such cells. None if the group has no such cells.
    """
    if runs.empty:
        return None
    width = float(runs["width"].max())
    edge = edge_at(width)
    if edge is None:
        return _not_measured(f"no stability edge inside its ladder was measured at width {width:g}", unit)
    if f"test_{metric}" not in runs or f"chance_{metric}" not in runs:
        return _not_measured(f"the cells that measure it have no test {metric}", unit)
    sign = 1.0 if METRICS[metric].direction == "max" else -1.0
    settings, scores, failures = _seed_table(_one_noise(runs[runs["width"] == width]), edge, metric, sign)
    if min(scores.shape) < 2:
        return _not_measured("fewer than two cells with two common seeds have finished", unit)
    constant = sign * float(runs[f"chance_{metric}"].astype(float).median())
    span = float(scores.mean(axis=0).max()) - constant
    if not span > 0:
        return _not_measured(f"no cell that measures it has a better {metric} than a constant predictor", unit)
    # The curve describes runs that train. Where larger rates make runs fail, it ends.
    unstable = np.flatnonzero(failures > failures[0])
    known = int(unstable[0]) if unstable.size else len(failures)
    shares = np.array([share.value for share, *_ in settings])
    posterior = _posterior(shares[:known], scores[:, :known], span)
    convention = f"how much worse the late test {metric} is than in the cell with the smallest share"
    drops = [exact(0.0, unit)]
    drops += [mean_over_seeds(scores[:, 0] - column, unit, convention) for column in scores[:, 1:].T]
    columns = zip(settings, drops, failures, strict=True)
    return RatePrice(
        cells=tuple(PriceCell(*setting, drop, len(scores), int(failed)) for setting, drop, failed in columns),
        reason="",
        largest_share=float(shares[known - 1]),
        at_half=_quantiles(posterior.at_half, posterior.weights, unit, f"A in {_CURVE}"),
        exponent=_quantiles(posterior.exponents, posterior.weights, "1", f"k in {_CURVE}"),
        posterior=posterior,
    )


def _not_measured(reason: str, unit: str) -> RatePrice:
    return RatePrice((), reason, math.nan, no_estimate(unit, reason), no_estimate("1", reason), None)


def _one_noise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells at one noise scale. A sweep with more seeds may have found another best cell than before."""
    parts = {f"{noise:.6g}": runs[np.isclose(runs["noise_scale"], noise, rtol=1e-6)] for noise in runs["noise_scale"]}
    return max(parts.values(), key=lambda part: (len(part), float(part["noise_scale"].iloc[0])))


def _seed_table(
    runs: pd.DataFrame, edge: EdgeByBatch, metric: str, sign: float
) -> tuple[list[tuple[Estimate, float, float, int]], Array, NDArray[np.int64]]:
    """Collect the seeds that all cells share.

    Args:
        runs: The runs of one width and noise scale.
        edge: The stability edge at the width.
        metric: Name of the metric.
        sign: 1 if a larger value of the metric is better, else -1.

    Returns:
        The share, rate, batch size and steps of each cell in increasing order of the share; the metric of each seed in
        each cell, a larger value being better, shape [seeds, cells]; and the number of failed seeds of each cell.
    """
    failed = runs["diverged_or_collapsed"].astype(bool)
    chance = runs[f"chance_{metric}"].astype(float)
    scores = sign * runs[f"test_{metric}"].astype(float).where(~failed, chance)
    keys = ["learning_rate", "batch_size", "steps"]
    table = runs.assign(score=scores).pivot_table(index="seed", columns=keys, values="score")
    # A pack that failed leaves a cell without some seeds.
    table = table.loc[:, table.notna().sum() >= min(2, len(table))].dropna()
    settings = []
    for column in table.columns:
        rate, batch, steps = map(float, column)
        limit = edge.at(batch)
        value, low, high = (rate / end for end in (limit.value, limit.high, limit.low))
        share = Estimate(value, low, high, "1", "learning rate as a share of the stability edge at its batch size")
        settings.append((share, rate, batch, int(steps)))
    order = sorted(range(len(settings)), key=lambda place: settings[place][0].value)
    failures = runs.assign(failed=failed)[runs["seed"].isin(table.index)].groupby(keys)["failed"].sum()
    counts = failures.reindex(table.columns).to_numpy(dtype=np.int64)
    return [settings[place] for place in order], table.to_numpy(dtype=np.float64)[:, order], counts[order]


def _posterior(shares: Array, scores: Array, span: float) -> PricePosterior:
    """Return the posterior of the curve.

    The score of a seed in a cell is the seed's level, minus the price at the cell's share, plus noise of an unknown
    standard deviation. Levels have flat priors, so the likelihood is a Student one in the sum of squares that remains
    after each seed's mean is subtracted.

    Args:
        shares: Share of the edge of each cell, shape [cells].
        scores: Metric of each seed in each cell, a larger value being better, shape [seeds, cells].
        span: Span of the metric.
    """
    seeds, cells = scores.shape
    y = scores - scores.mean(axis=1, keepdims=True)
    curves = (shares / HALF) ** _EXPONENTS[:, None]
    curves -= curves.mean(axis=1, keepdims=True)
    at_half = span * _SPAN_SHARES[:, None]
    squares = (y**2).sum() + 2 * at_half * (curves @ y.sum(axis=0)) + at_half**2 * seeds * (curves**2).sum(axis=1)
    degrees = seeds * (cells - 1)
    log_posterior = (
        -0.5 * (degrees + 1) * np.log((_NOISE_SHARE * span) ** 2 + squares)
        - 0.5 * ((np.log(_SPAN_SHARES[:, None]) - math.log(_SPAN_SHARE)) / _SPAN_SHARE_SPREAD) ** 2
        - 0.5 * ((_EXPONENTS - _EXPONENT) / _EXPONENT_SPREAD) ** 2
    )
    weights = np.exp(log_posterior - log_posterior.max())
    grid = np.broadcast_arrays(at_half, _EXPONENTS, weights / weights.sum())
    return PricePosterior(*(part.ravel() for part in grid))


def _quantiles(values: Array, weights: Array, unit: str, convention: str) -> Estimate:
    """Return the median and the ends of the central 95 % of a weighted sample."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order]) - weights[order] / 2
    low, middle, high = np.interp([0.025, 0.5, 0.975], cumulative, values[order])
    return Estimate(float(middle), float(low), float(high), unit, convention)
