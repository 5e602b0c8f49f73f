"""The price of a larger learning rate: how far the metric drops near the stability edge, at equal noise.

A larger rate with a larger batch keeps the noise scale and needs fewer steps, but it costs some of the metric. How much
depends on the share of the stability edge that the rate takes. It is measured by a few cells with the same noise.
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
from noisescale.laws.metric_scale import fitted_unit, fitted_values
from noisescale.laws.price_curve import PriceCurve, price_curve
from noisescale.store import fill_failures
from noisescale.training import METRICS

Array = NDArray[np.float64]


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


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class RatePrice:
    """The price of a larger learning rate at equal noise, measured at the largest width.

    Args:
        cells: The cells, in increasing order of the share of the edge; empty if nothing was measured.
        reason: The reason why nothing was measured; empty if the price was measured.
        largest_share: Largest share of the edge at which the price is known: that of the last cell before the first in
            which more seeds fail than at the smallest share. NaN if nothing was measured.
        at_half: A in the curve A·(s/½)^k of the price at the share s of the edge: the price at half of the edge, in the
            metric's unit.
        exponent: k in this curve.
        curve: Posterior of A and k; None if nothing was measured. It is left out of the JSON form.
    """

    cells: tuple[PriceCell, ...]
    reason: str
    largest_share: float
    at_half: Estimate
    exponent: Estimate
    curve: PriceCurve | None = Field(exclude=True, repr=False)

    def mean(self, share: Array) -> Array:
        """Return the expected price of taking shares of the stability edge.

        Args:
            share: Shares of the edge, shape [points].

        Returns:
            How much worse the metric is than at a small share (0.2 or less), in the metric's unit, shape [points]. It
            is infinite above `largest_share`, because the curve is not extrapolated, and if nothing was measured.
        """
        return np.full(np.shape(share), np.inf) if self.curve is None else self.curve.mean(share)

    def draws(self, share: Array, count: int, generator: np.random.Generator) -> Array:
        """Draw curves of the price from the posterior.

        Args:
            share: Shares of the edge, shape [points].
            count: Number of draws.
            generator: Source of the random numbers.

        Returns:
            Prices as in `mean`, shape [count, points].
        """
        if self.curve is None:
            return np.full((count, *np.shape(share)), np.inf)
        return self.curve.draws(share, count, generator)


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
    sign = METRICS[metric].sign
    settings, scores, failures = _seed_table(_one_noise(runs[runs["width"] == width]), edge, metric, sign)
    if min(scores.shape) < 2:
        return _not_measured("fewer than two cells with two common seeds have finished", unit)
    unit = fitted_unit(metric, unit)
    constant = sign * float(fitted_values(runs[f"chance_{metric}"].astype(float).median(), metric))
    span = float(scores.mean(axis=0).max()) - constant
    if not span > 0:
        return _not_measured(f"no cell that measures it has a better {metric} than a constant predictor", unit)
    # The curve describes runs that train. Where larger rates make runs fail, it ends.
    unstable = np.flatnonzero(failures > failures[0])
    known = int(unstable[0]) if unstable.size else len(failures)
    shares = np.array([share.value for share, *_ in settings])
    curve = price_curve(shares[:known], scores[:, :known], span)
    convention = f"how much worse the late test {metric} is than in the cell with the smallest share"
    drops = [exact(0.0, unit)]
    drops += [mean_over_seeds(scores[:, 0] - column, unit, convention) for column in scores[:, 1:].T]
    columns = zip(settings, drops, failures, strict=True)
    return RatePrice(
        cells=tuple(PriceCell(*setting, drop, len(scores), int(failed)) for setting, drop, failed in columns),
        reason="",
        largest_share=curve.largest_share,
        at_half=curve.at_half(unit),
        exponent=curve.exponent(),
        curve=curve,
    )


def _not_measured(reason: str, unit: str) -> RatePrice:
    return RatePrice((), reason, math.nan, no_estimate(unit, reason), no_estimate("1", reason), None)


def _one_noise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells at one noise scale. A sweep with more seeds may have another best cell than before."""
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
    scores = sign * fitted_values(fill_failures(runs, f"test_{metric}", metric, failed), metric)
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
