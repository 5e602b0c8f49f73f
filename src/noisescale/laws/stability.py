"""The largest stable rate: the median over seeds of interval-censored thresholds of failure.

Two intervals are given. The likelihood one takes log thresholds as normal over seeds; it is close to 95 % and as narrow
as the ladder allows. The distribution-free one holds for any distribution but is never narrower than a cell of the
ladder, and covers in more than 98 % of the draws wherever the seeds differ by less than two cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr

from noisescale.errors import BadInput
from noisescale.estimate import CONFIDENCE, Estimate, from_log, two_sided

Array = NDArray[np.float64]

# With five seeds the widest order-statistic interval of a median has confidence 1 - 2/2^5 = 0.9375.
MINIMUM_SEEDS = 6
# Points of the grids on which the likelihood is profiled; twice as many move an end by less than 1 % of a cell.
_MEDIANS = 321
_SPREADS = 40
CONVENTION = "median over seeds of the rate at which training first fails, within the stability steps"


@dataclass(frozen=True)
class StabilityEdge:
    """The largest stable rate of one width at one batch size.

    Args:
        rate: median threshold ε_½ with its likelihood interval; an end is infinite where the seeds do not bound it
            and NaN below six seeds.
        distribution_free: the nonparametric median with its interval from order statistics, extended outward to the
            cells of the ladder.
        label: bracketed, single_cell (every seed fails in the same cell, which is then the interval), no_failure
            (at least half of the seeds never fail), all_fail (at least half fail at the lowest rate) or too_few_seeds.
        advice: what the label means and what would mend it.
        returning: share of the seeds that are stable again above their first failure (the boundary is fractal).
        seeds: number of seeds.
        cells: number of rates tried.
        step: median of the logarithm of the ratio of neighbouring rates around the edge.
    """

    rate: Estimate
    distribution_free: Estimate
    label: str
    advice: str
    returning: float
    seeds: int
    cells: int
    step: float

    @property
    def standard_error(self) -> float:
        """Standard error of the logarithm of the rate; NaN where its interval is open."""
        return self.rate.log_error


ADVICE = {
    "bracketed": "the edge lies inside the ladder",
    "single_cell": "every seed fails first in the same cell: the interval is the cell; refine the ladder to narrow it",
    "no_failure": "at least half of the seeds never fail: extend the ladder upward",
    "all_fail": "at least half of the seeds fail at the lowest rate: extend the ladder downward",
    "too_few_seeds": f"a 95 % interval of a median needs {MINIMUM_SEEDS} seeds",
}


def stability_edge(rates: Array, failed: Array, confidence: float = CONFIDENCE) -> StabilityEdge:
    """Estimate the largest stable rate from a ladder of rates tried by several seeds.

    Each seed gives the interval (its last stable rate below its first failure, that failure]; failures below its lowest
    stable rate are set aside, because a short run may learn nothing at a small rate. `rate` maximizes the
    likelihood Π_s [Φ((log f_s - μ)/σ) - Φ((log l_s - μ)/σ)]; its interval holds the μ whose likelihood, maximized over
    σ, is within S·log(1 + t²_{S-1}/(S-1))/2 of the maximum in logarithm, which is the t interval where the ladder is
    fine and the cell itself where all seeds fail in one. `distribution_free` is the median of the nonparametric
    likelihood estimate, and runs from an order statistic of the lower ends to one of the upper ends, the binomial
    confidence interpolated between neighbouring order statistics.

    Args:
        rates: learning rates, increasing, shape [cells].
        failed: 1 where the run diverged or collapsed, 0 where it was stable, NaN where not run, shape [seeds, cells].
        confidence: level of the interval.

    Returns:
        The edge with its label.

    Raises:
        BadInput: Rates that are not positive and increasing, or shapes that do not fit.

    Source:
        Turnbull 1976 (interval censoring); Hettmansperger and Sheather 1986 (interpolated order statistics); coverage
        in `benchmarks/coverage.py`.
    """
    rates, failed = np.asarray(rates, dtype=np.float64), np.asarray(failed, dtype=np.float64)
    if failed.ndim != 2 or rates.shape != (failed.shape[1],):
        raise BadInput("stability_edge", "rates[cells] and failed[seeds, cells]", failed.shape)
    if rates.size == 0 or np.any(rates <= 0) or np.any(np.diff(rates) <= 0):
        raise BadInput("stability_edge", "rates must be positive and increasing", rates.tolist())
    failed = failed[np.isfinite(failed).any(axis=1)]
    if failed.shape[0] == 0:
        raise BadInput("stability_edge", "at least one seed with one run", "none")
    low, high, returning = _thresholds(np.log(rates), failed)
    seeds = low.size
    finite = np.isfinite(low) & np.isfinite(high)
    step = float(np.median((high - low)[finite])) if finite.any() else math.nan
    label = _label(low, high)
    if label == "no_failure":
        value, ends = float(np.log(rates[-1])), (math.nan, math.inf)
    elif label == "all_fail":
        value, ends = float(np.log(rates[0])), (-math.inf, math.nan)
    elif seeds == 1:  # a cell, and no spread to make an interval of
        value, ends = float(low[0] + high[0]) / 2, (math.nan, math.nan)
    else:
        value, *ends_list = _likelihood_interval(low, high, step, confidence)
        ends = (ends_list[0], ends_list[1])
    middle, outer = _turnbull_median(low, high), (math.nan, math.nan)
    if seeds >= MINIMUM_SEEDS:
        outer = _order_statistics(low, high, confidence)
        # Where the median itself is not bracketed, only the distribution-free end on the bracketed side is known.
        ends = {"no_failure": (outer[0], math.inf), "all_fail": (-math.inf, outer[1])}.get(label, ends)
    elif label in ("bracketed", "single_cell"):
        label, ends = "too_few_seeds", (math.nan, math.nan)
    return StabilityEdge(
        rate=from_log(value, ends[0], ends[1], "learning rate", CONVENTION),
        distribution_free=from_log(middle, outer[0], outer[1], "learning rate", f"{CONVENTION}; any distribution"),
        label=label,
        advice=ADVICE[label],
        returning=returning,
        seeds=seeds,
        cells=rates.size,
        step=step,
    )


def _thresholds(log_rates: Array, failed: Array) -> tuple[Array, Array, float]:
    """Each seed's interval of the logarithm of the threshold, and the share of seeds with returning stability.

    A short run at a small rate may end at chance because it has learned nothing yet: what fails below a seed's lowest
    stable rate is slow, not unstable, and is set aside.
    """
    stable = failed == 0
    learns = np.min(np.where(stable, log_rates, math.inf), axis=1, keepdims=True)
    unstable = (failed == 1) & ((log_rates > learns) | np.isinf(learns))
    first = np.min(np.where(unstable, log_rates, math.inf), axis=1)
    below = np.max(np.where(stable & (log_rates < first[:, None]), log_rates, -math.inf), axis=1)
    returning = np.any(stable & (log_rates > first[:, None]), axis=1)
    return below, first, float(returning.mean())


def _likelihood_interval(low: Array, high: Array, step: float, confidence: float) -> tuple[float, float, float]:
    """Most likely log median and the ends of its profile-likelihood interval; infinite where it does not end."""
    pairs, counts = np.unique(np.stack([low, high], axis=1), axis=0, return_counts=True)
    ends = pairs[np.isfinite(pairs)]
    reach = 3 * step + (ends.max() - ends.min())
    mu = np.linspace(ends.min() - reach, ends.max() + reach, _MEDIANS)
    sigma = np.geomspace(0.02 * step, 2 * reach, _SPREADS)
    upper = (pairs[:, 1, None, None] - mu[:, None]) / sigma
    lower = (pairs[:, 0, None, None] - mu[:, None]) / sigma
    # Both arguments far in the upper tail would cancel: mirror them to the lower one.
    mirrored = lower > 0
    inside = ndtr(np.where(mirrored, -lower, upper)) - ndtr(np.where(mirrored, -upper, lower))
    profile = np.tensordot(counts, np.log(np.maximum(inside, 1e-300)), axes=1).max(axis=1)
    seeds = int(counts.sum())
    depth = profile.max() - profile - seeds * math.log1p(two_sided(seeds - 1, confidence) ** 2 / (seeds - 1)) / 2
    accepted = np.flatnonzero(depth <= 0)
    limits = []
    for k, outward in ((int(accepted[0]), -1), (int(accepted[-1]), 1)):
        if not 0 <= k + outward < mu.size:
            limits.append(outward * math.inf)
            continue
        share = depth[k] / (depth[k] - depth[k + outward])
        limits.append(float(mu[k] + share * (mu[k + outward] - mu[k])))
    # Seeds that all fail in one cell leave the likelihood flat across it: its middle stands for it.
    best = float(mu[profile >= profile.max() - 1e-6].mean())
    return best, limits[0], limits[1]


def _turnbull_median(low: Array, high: Array) -> float:
    """Median of the maximum-likelihood distribution of thresholds in (low, high], log-uniform within a cell."""
    cuts = np.unique(np.concatenate([low, high]))
    if cuts.size == 1:
        return float(cuts[0])
    left, right = cuts[:-1], cuts[1:]
    member = (left >= low[:, None]) & (right <= high[:, None])
    mass = member.mean(axis=0) / max(member.mean(axis=0).sum(), 1e-300)
    for _ in range(500):
        share = member * mass
        updated = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
        settled = bool(np.max(np.abs(updated - mass)) < 1e-9)
        mass = updated
        if settled:
            break
    cumulative = np.cumsum(mass)
    cell = int(np.searchsorted(cumulative, 0.5 - 1e-9))
    before = cumulative[cell - 1] if cell else 0.0
    if not np.isfinite(left[cell]):
        return float(right[cell])
    if not np.isfinite(right[cell]):
        return float(left[cell])
    return float(left[cell] + (right[cell] - left[cell]) * (0.5 - before) / mass[cell])


def _order_statistics(low: Array, high: Array, confidence: float) -> tuple[float, float]:
    """Order-statistic interval of the median, outward to cells, confidence interpolated between neighbours."""
    seeds = low.size
    levels = [1 - 2 * float(bdtr(k - 1, seeds, 0.5)) for k in range(1, seeds // 2 + 1)]
    k = max(rank for rank, level in enumerate(levels, start=1) if level >= confidence)
    inner = levels[k] if k < len(levels) else 0.0
    share = (levels[k - 1] - confidence) / (levels[k - 1] - inner)
    weight = (seeds - k) * share / (k + (seeds - 2 * k) * share)
    lower, upper = np.sort(low), np.sort(high)[::-1]
    ends = []
    for ordered in (lower, upper):
        outer, next_in = float(ordered[k - 1]), float(ordered[min(k, seeds - 1)])
        ends.append(outer if not math.isfinite(outer) else (1 - weight) * outer + weight * next_in)
    return ends[0], ends[1]


def _label(low: Array, high: Array) -> str:
    if np.mean(np.isinf(high)) >= 0.5:
        return "no_failure"
    if np.mean(np.isinf(low)) >= 0.5:
        return "all_fail"
    return "single_cell" if np.ptp(low) == 0 and np.ptp(high) == 0 else "bracketed"
