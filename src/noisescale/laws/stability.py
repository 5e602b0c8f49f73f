"""The largest stable learning rate: the median over seeds of interval-censored failure thresholds.

A stability ladder trains increasing learning rates with several seeds. Here a cell is the gap between two neighbouring
rates. The threshold of a seed lies in the cell where it first fails.

The edge has two intervals. The likelihood interval assumes log thresholds that are normal over seeds. Its coverage is
close to 95 %, and it is as narrow as the ladder allows. The distribution-free interval holds for any distribution, but
it is never narrower than a cell. It covers the edge in more than 98 % of the draws if the seeds differ by less than two
cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr

from noisescale.edge_rules import seed_thresholds
from noisescale.errors import BadInput
from noisescale.estimate import CONFIDENCE, Estimate, from_log, two_sided

Array = NDArray[np.float64]

# With five seeds the widest order-statistic interval of a median has a confidence of only 1 - 2/2^5 = 0.9375.
MINIMUM_SEEDS = 6
# Grid points of the profile likelihood along the median and along the spread. Doubling both numbers moves an end by
# less than 1 % of a cell.
_MEDIANS, _SPREADS = 321, 40
CONVENTION = "median over seeds of the rate at which training first fails, within the stability steps"


@dataclass(frozen=True)
class StabilityEdge:
    """The largest stable learning rate of one width at one batch size.

    Args:
        rate: Median threshold ε_½ with its likelihood interval. An end is infinite if the seeds do not bound it, and
            NaN with fewer than six seeds.
        distribution_free: Nonparametric median with its interval from order statistics, extended outward to the cells
            of the ladder.
        label: bracketed, single_cell (every seed fails in the same cell, which is the interval), no_failure (at least
            half of the seeds never fail), all_fail (at least half fail at the lowest rate) or too_few_seeds.
        advice: Meaning of the label, and the remedy.
        returning: Share of the seeds that are stable again at a rate above their first failure. It is positive if the
            boundary between stable and unstable rates is fractal.
        seeds: Number of seeds.
        cells: Number of learning rates on the ladder.
        step: Median log ratio of neighbouring rates around the edge.
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
        """Standard error of the log rate; NaN if an end of its interval is infinite."""
        return self.rate.log_error


EDGE_ADVICE = {
    "bracketed": "the edge lies inside the ladder",
    "single_cell": "every seed first fails in the same cell, which is the interval: refine the ladder to narrow it",
    "no_failure": "at least half of the seeds never fail: extend the ladder upward",
    "all_fail": "at least half of the seeds fail at the lowest rate: extend the ladder downward",
    "too_few_seeds": f"a 95 % interval of a median needs {MINIMUM_SEEDS} seeds",
}


def stability_edge(rates: Array, failed: Array, confidence: float = CONFIDENCE) -> StabilityEdge:
    """Estimate the largest stable learning rate from a ladder of rates trained with several seeds.

    Seed s brackets its threshold by (l_s, f_s]: f_s is its first failure and l_s its last stable rate below f_s.
    Failures below a seed's lowest stable rate are ignored, because a short run may learn nothing at a small rate.

    `rate` maximizes the likelihood Π_s [Φ((log f_s - μ)/σ) - Φ((log l_s - μ)/σ)]. Its interval contains every μ whose
    log likelihood, maximized over σ, is within S·log(1 + t²_{S-1}/(S-1))/2 of the maximum. On a fine ladder this is the
    t interval; if all seeds fail in one cell, it is that cell. `distribution_free` is the median of the nonparametric
    likelihood estimate. Its interval runs from an order statistic of the lower ends to an order statistic of the upper
    ends, with the binomial confidence interpolated between neighbouring order statistics.

    Args:
        rates: Learning rates, increasing, shape [cells].
        failed: 1 if the run diverged or collapsed, 0 if it was stable, NaN if it is missing, shape [seeds, cells].
        confidence: Level of the interval.

    Returns:
        The edge with its label.

    Raises:
        BadInput: The rates are not positive and increasing, the shapes do not fit, or no run is given.

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
        raise BadInput("stability_edge", "at least one run of one seed", "none")
    low, high, returning = _thresholds(np.log(rates), failed)
    seeds = low.size
    finite = np.isfinite(low) & np.isfinite(high)
    step = float(np.median((high - low)[finite])) if finite.any() else math.nan
    label = _label(low, high)
    if label == "no_failure":
        value, ends = float(np.log(rates[-1])), (math.nan, math.inf)
    elif label == "all_fail":
        value, ends = float(np.log(rates[0])), (-math.inf, math.nan)
    elif seeds == 1:  # without a spread over seeds there is no interval
        value, ends = float(low[0] + high[0]) / 2, (math.nan, math.nan)
    else:
        value, *ends_list = _likelihood_interval(low, high, step, confidence)
        ends = (ends_list[0], ends_list[1])
    median, order_ends = _turnbull_median(low, high), (math.nan, math.nan)
    if seeds >= MINIMUM_SEEDS:
        order_ends = _order_statistics(low, high, confidence)
        # If the median is not bracketed, only the distribution-free end on the bracketed side is known.
        ends = {"no_failure": (order_ends[0], math.inf), "all_fail": (-math.inf, order_ends[1])}.get(label, ends)
    elif label in ("bracketed", "single_cell"):
        label, ends = "too_few_seeds", (math.nan, math.nan)
    return StabilityEdge(
        rate=from_log(value, ends[0], ends[1], "learning rate", CONVENTION),
        distribution_free=from_log(
            median, order_ends[0], order_ends[1], "learning rate", f"{CONVENTION}; any distribution"
        ),
        label=label,
        advice=EDGE_ADVICE[label],
        returning=returning,
        seeds=seeds,
        cells=rates.size,
        step=step,
    )


def _thresholds(log_rates: Array, failed: Array) -> tuple[Array, Array, float]:
    """Return the ends of each seed's log threshold [S], and the share of seeds that are stable again above it."""
    below, first = seed_thresholds(log_rates, failed)
    returning = np.any((failed == 0) & (log_rates > first[:, None]), axis=1)
    return below, first, float(returning.mean())


def _likelihood_interval(low: Array, high: Array, step: float, confidence: float) -> tuple[float, float, float]:
    """Return the most likely log median and the ends of its profile-likelihood interval, which may be infinite."""
    pairs, counts = np.unique(np.stack([low, high], axis=1), axis=0, return_counts=True)
    ends = pairs[np.isfinite(pairs)]
    reach = 3 * step + (ends.max() - ends.min())
    mu = np.linspace(ends.min() - reach, ends.max() + reach, _MEDIANS)
    sigma = np.geomspace(0.02 * step, 2 * reach, _SPREADS)
    upper = (pairs[:, 1, None, None] - mu[:, None]) / sigma
    lower = (pairs[:, 0, None, None] - mu[:, None]) / sigma
    # If both arguments lie far in the upper tail, the difference would cancel: mirror them to the lower tail.
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
    # If all seeds fail in one cell, the likelihood is flat across it, and the estimate is its middle.
    best = float(mu[profile >= profile.max() - 1e-6].mean())
    return best, limits[0], limits[1]


def _turnbull_median(low: Array, high: Array) -> float:
    """Return the median of the maximum-likelihood distribution of thresholds in (low, high], log-uniform in a cell."""
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
    """Return the order-statistic interval of the median, with the confidence interpolated between neighbours."""
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
