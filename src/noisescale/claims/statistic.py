"""Statistics: an estimate, the criterion that it must meet, and the tests behind the outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr

from noisescale.claims.criterion import Criterion, Outcome
from noisescale.claims.panel import Floats
from noisescale.estimate import Estimate, two_sided
from noisescale.laws import half_width_without_spread, has_no_spread, mean_over_seeds, with_shared_error

_MAX_SEEDS = 100_000
# A statistic is contradicted if its 95% interval lies outside the region.
CONTRADICTION_LEVEL = 0.025


@dataclass(frozen=True)
class Statistic:
    """An estimate with the criterion that it must meet.

    Args:
        name: Name of the quantity.
        estimate: The estimate with its 95% interval.
        errors: One (standard error, degrees of freedom) for each t test over seeds. The interval of the estimate is the
            widest interval from `errors` and `scatter`.
        seeds: Number of seeds.
        criterion: The criterion.
        scatter: One (standard error, degrees of freedom) for each t test that uses the scatter of widths about a line.
            More seeds do not add degrees of freedom.
        lasting: Part of each standard error of `errors` and `scatter`, in this order, that more seeds do not reduce. By
            default, it is 0 for `errors` and the whole error for `scatter`.
    """

    name: str
    estimate: Estimate
    errors: tuple[tuple[float, float], ...]
    seeds: int
    criterion: Criterion
    scatter: tuple[tuple[float, float], ...] = ()
    lasting: tuple[float, ...] = ()

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
        if not self.has_tests:
            return 1.0
        return max(self._p_value(error, degrees) for error, degrees in self.errors + self.scatter)

    def seeds_needed(self, level: float = 0.025) -> int | None:
        """Return the number of seeds at which the tests would pass if the values stayed the same.

        If the value lies outside the region, this is the number at which the interval would lie outside too.

        Args:
            level: Level of each one-sided test.

        Returns:
            The number of seeds. None if the statistic is contradicted already, if a value outside the region leaves the
            claim open, or if the errors that more seeds do not reduce are too large.
        """
        outside = self._distance_inside < 0
        if not self.has_tests or self.outcome == "contradicted" or (outside and self.criterion.open_outside):
            return None
        required = CONTRADICTION_LEVEL if outside else level
        seeds = 2
        while not self._passes(seeds, required):
            if seeds >= _MAX_SEEDS:
                return None
            seeds = math.ceil(1.1 * seeds)
        return seeds

    def limited_by_lasting_error(self, level: float = 0.025) -> bool:
        """Return whether the tests fail because of errors that more seeds do not reduce.

        Args:
            level: Level of each one-sided test.
        """
        if not self.has_tests or (self._distance_inside < 0 and self.criterion.open_outside):
            return False
        required = CONTRADICTION_LEVEL if self._distance_inside < 0 else level
        return any(self._lasting) and not self._passes(_MAX_SEEDS, required)

    def rests_on_the_fit(self, level: float = 0.025) -> bool:
        """Return whether `seeds_needed` assumes that the noise of the seeds explains the scatter of the widths.

        Args:
            level: Level of each one-sided test.
        """
        lasting = self._lasting[len(self.errors) :]
        tests = zip(self.scatter, lasting, strict=True)
        return any(not part and self._p_value(error, degrees) > level for (error, degrees), part in tests)

    @property
    def has_tests(self) -> bool:
        """Whether there is an interval and a t test."""
        return self.estimate.bounded and bool(self.errors or self.scatter)

    @property
    def _lasting(self) -> tuple[float, ...]:
        """The part of each standard error that more seeds do not reduce."""
        return self.lasting or (*(0.0 for _ in self.errors), *(error for error, _ in self.scatter))

    def _passes(self, seeds: int, level: float) -> bool:
        """Return whether all tests would pass with another number of seeds and the same value."""
        distance = abs(self._distance_inside)
        for index, ((error, degrees), lasting) in enumerate(
            zip(self.errors + self.scatter, self._lasting, strict=True)
        ):
            if index < len(self.errors):
                degrees *= (seeds - 1) / (self.seeds - 1)
            reduced = math.sqrt(lasting**2 + max(error**2 - lasting**2, 0.0) * self.seeds / seeds)
            if self._two_sided(_tail(distance, reduced, degrees)) > level:
                return False
        return True

    @property
    def _distance_inside(self) -> float:
        """Distance from the value to the nearest end of the region. It is negative outside the region."""
        value, region = self.estimate.value, self.criterion
        return abs(value - region.low) if region.either_side else min(value - region.low, region.high - value)

    def _p_value(self, error: float, degrees: float) -> float:
        return self._two_sided(_tail(self._distance_inside, error, degrees))

    def _two_sided(self, one_sided: float) -> float:
        return min(1.0, 2 * one_sided) if self.criterion.either_side else one_sided


def _tail(distance: float, error: float, degrees: float) -> float:
    if not error:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(degrees, -distance / error))


def over_seeds(
    name: str,
    values: Floats,
    unit: str,
    convention: str,
    criterion: Criterion,
    resolution: float = 0.0,
    shared_error: float = 0.0,
) -> Statistic:
    """Estimate the mean over seeds with its t interval. A single seed has no interval.

    Seeds with equal values do not show their error. Then there is no interval, unless a resolution is given.

    Args:
        name: Name of the quantity.
        values: One value per seed, shape [S].
        unit: Unit of the values.
        convention: How the values are computed.
        criterion: The criterion.
        resolution: Step between the possible values of a quantity that is counted, or the rounding error of a quantity
            that is exact. The variance step²/12 is added to the variance of the seeds. If all values are equal, the
            interval is at least as wide as the bound on how often a further seed differs.
        shared_error: Standard error that all seeds share, which more seeds do not reduce.

    Source:
        Sheppard 1898, for step²/12; Clopper and Pearson 1934, for equal values.
    """
    values = np.asarray(values, dtype=np.float64)
    seeds = len(values)
    equal = has_no_spread(values)
    if equal and not resolution:
        text = f"{convention}, equal in all {seeds} seeds, so its error is unknown"
        return Statistic(name, Estimate(float(values.mean()), -math.inf, math.inf, unit, text), (), seeds, criterion)
    estimate = mean_over_seeds(values, unit, convention)
    error = estimate.standard_error
    if resolution and seeds > 1:
        error = math.sqrt(error**2 + resolution**2 / 12 / seeds)
        if equal:
            error = max(error, half_width_without_spread(seeds, resolution) / two_sided(seeds - 1))
    total, degrees = with_shared_error(error, seeds - 1.0, shared_error)
    if not math.isfinite(total):
        return Statistic(name, estimate, (), seeds, criterion)
    half_width = two_sided(degrees) * total
    estimate = replace(
        estimate, low=estimate.value - half_width, high=estimate.value + half_width, standard_error=total
    )
    return Statistic(name, estimate, ((total, degrees),), seeds, criterion, lasting=(shared_error,))


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


def from_interval(
    name: str, estimate: Estimate, seeds: int, criterion: Criterion, shared_error: float = 0.0
) -> Statistic:
    """Make a statistic from an estimate over seeds, with the standard error that its interval implies.

    The end of the interval that faces the nearest end of the region counts, because an interval may be asymmetric.

    Args:
        name: Name of the quantity.
        estimate: The estimate. Without a spread of the seeds, its interval must have a width.
        seeds: Number of seeds.
        criterion: The criterion.
        shared_error: The part of the standard error that all seeds share.
    """
    if criterion.either_side:
        low_is_nearest = estimate.value >= criterion.low
    else:
        low_is_nearest = estimate.value - criterion.low <= criterion.high - estimate.value
    half_width = estimate.value - estimate.low if low_is_nearest else estimate.high - estimate.value
    error = half_width / two_sided(seeds - 1) if seeds > 1 else math.nan
    lasting = min(shared_error, error)
    errors = ((error, seeds - 1.0),) if math.isfinite(error) and error > 0 else ()
    return Statistic(name, estimate, errors, seeds, criterion, lasting=(lasting,) if errors else ())


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
