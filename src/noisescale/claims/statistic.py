"""Statistics: an estimate, the criterion that it must meet, and the tests behind the outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr

from noisescale.claims.criterion import Criterion, Outcome
from noisescale.claims.panel import Floats
from noisescale.estimate import Estimate, two_sided
from noisescale.laws import mean_over_seeds

_MAX_SEEDS = 100_000


@dataclass(frozen=True)
class Statistic:
    """An estimate with the criterion that it must meet.

    Args:
        name: Name of the quantity.
        estimate: The estimate with its 95% interval.
        errors: One (standard error, degrees of freedom) for each t test whose standard error falls with more seeds. The
            interval of the estimate is the widest interval from `errors` and `scatter`.
        seeds: Number of seeds.
        criterion: The criterion.
        scatter: One (standard error, degrees of freedom) for each t test that uses the scatter of widths about a line.
            More seeds do not reduce this scatter.
    """

    name: str
    estimate: Estimate
    errors: tuple[tuple[float, float], ...]
    seeds: int
    criterion: Criterion
    scatter: tuple[tuple[float, float], ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Supported if the interval lies in the region, contradicted if it lies outside, inconclusive otherwise."""
        estimate, region = self.estimate, self.criterion
        if not estimate.bounded:
            return "inconclusive"
        if region.either_side:
            return "inconclusive" if estimate.covers(region.low) else "supported"
        if region.low < estimate.low and estimate.high < region.high:
            return "supported"
        outside = estimate.high < region.low or estimate.low > region.high
        return "contradicted" if outside and not region.open_outside else "inconclusive"

    @property
    def p_value(self) -> float:
        """The larger p-value of the two one-sided tests of whether the truth lies in the region; 1 without an interval.

        If the criterion only excludes a value, this is the p-value of the two-sided test.
        """
        if not self.estimate.bounded or not (self.errors or self.scatter):
            return 1.0
        return max(self._p_value(error, degrees) for error, degrees in self.errors + self.scatter)

    def seeds_needed(self, level: float = 0.025) -> int | None:
        """Return the number of seeds at which the tests would pass if the values stayed the same.

        Args:
            level: Level of each one-sided test.

        Returns:
            The number of seeds. None if the value lies outside the region, or if a test that uses the scatter about a
            line over widths fails, because more seeds do not reduce this scatter.
        """
        if not self.estimate.bounded or not self.errors or not self._distance_inside > 0:
            return None
        if any(self._p_value(error, degrees) > level for error, degrees in self.scatter):
            return None

        def passes(seeds: int) -> bool:
            degrees_ratio = (seeds - 1) / (self.seeds - 1)
            return all(
                self._p_value(error * math.sqrt(self.seeds / seeds), degrees * degrees_ratio) <= level
                for error, degrees in self.errors
            )

        seeds = 2
        while seeds < _MAX_SEEDS and not passes(seeds):
            seeds = math.ceil(1.1 * seeds)
        return seeds

    @property
    def _distance_inside(self) -> float:
        """Distance from the value to the nearest end of the region. It is negative outside the region."""
        value, region = self.estimate.value, self.criterion
        return abs(value - region.low) if region.either_side else min(value - region.low, region.high - value)

    def _p_value(self, error: float, degrees: float) -> float:
        one_sided = _tail(self._distance_inside, error, degrees)
        return min(1.0, 2 * one_sided) if self.criterion.either_side else one_sided


def _tail(distance: float, error: float, degrees: float) -> float:
    if not error:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(degrees, -distance / error))


def over_seeds(
    name: str, values: Floats, unit: str, convention: str, criterion: Criterion, resolution: float = 0.0
) -> Statistic:
    """Estimate the mean over seeds with its t interval. A single seed has no interval.

    Args:
        name: Name of the quantity.
        values: One value per seed, shape [S].
        unit: Unit of the values.
        convention: How the values are computed.
        criterion: The criterion.
        resolution: Step between the possible values of a quantity that is counted. The variance step²/12 is added to
            the variance of the seeds, so that the interval has a width even if all counts are equal.

    Source:
        Sheppard 1898, for step²/12.
    """
    estimate = mean_over_seeds(np.asarray(values, dtype=np.float64), unit, convention)
    if resolution and len(values) > 1:
        step_width = two_sided(len(values) - 1) * math.sqrt(resolution**2 / 12 / len(values))
        half_width = math.hypot((estimate.high - estimate.low) / 2, step_width)
        estimate = replace(estimate, low=estimate.value - half_width, high=estimate.value + half_width)
    return from_t_interval(name, estimate, len(values), criterion)


def over_pairs(name: str, values: Floats, unit: str, convention: str, criterion: Criterion) -> Statistic:
    """Estimate the mean over pairs of seeds with its t interval. The two seeds of a pair may depend on each other.

    Args:
        name: Name of the quantity.
        values: One value per seed, shape [S], S even. Seeds (0, 1), (2, 3), … form the pairs.
        unit: Unit of the values.
        convention: How the values are computed.
        criterion: The criterion.
    """
    statistic = over_seeds(name, pair_means(np.asarray(values, dtype=np.float64)), unit, convention, criterion)
    estimate = replace(statistic.estimate, convention=f"{convention}, mean over pairs of seeds")
    return replace(statistic, estimate=estimate, seeds=2 * statistic.seeds)


def pair_means(values: Floats) -> Floats:
    """Average the two seeds of each pair.

    Args:
        values: Values by seed, shape [S, …], S even.

    Returns:
        Means by pair, shape [S/2, …].
    """
    means: Floats = values.reshape(-1, 2, *values.shape[1:]).mean(1)
    return means


def from_t_interval(name: str, estimate: Estimate, seeds: int, criterion: Criterion) -> Statistic:
    """Make a statistic from an estimate whose interval is the t interval over seeds.

    Args:
        name: Name of the quantity.
        estimate: The estimate.
        seeds: Number of seeds.
        criterion: The criterion.
    """
    error = (estimate.high - estimate.low) / 2 / two_sided(seeds - 1) if seeds > 1 else math.nan
    return Statistic(name, estimate, ((error, seeds - 1.0),) if math.isfinite(error) else (), seeds, criterion)


def farthest_from(target: float, values: Floats) -> Floats:
    """Return the values of the setting whose mean over seeds is farthest from a target.

    In a mean over settings, deviations of opposite sign would cancel.

    Args:
        target: The value that theory predicts.
        values: Values by setting and seed, shape [K, S].

    Returns:
        Values of this setting, shape [S].
    """
    farthest: Floats = values[np.abs(values.mean(1) - target).argmax()]
    return farthest
