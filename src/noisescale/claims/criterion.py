"""What a statistic must do for a claim to be supported; fixed before the run that confirms it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from noisescale.laws.equivalence import MARGIN, SHARE
from noisescale.laws.interval import Estimate, mean_over_seeds, two_sided

Outcome = Literal["supported", "contradicted", "inconclusive"]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Criterion:
    """A region in which a statistic must lie, with its whole interval.

    Arguments:
        low, high: its ends. text: in words. either_side: whether it is all but a single number, `low` and `high` alike.
        open_outside: whether an interval outside of it is no contradiction, only the absence of what was sought.
    """

    low: float
    high: float
    text: str
    either_side: bool = False
    open_outside: bool = False


def within(target: float, margin: float) -> Criterion:
    """Target ± margin: an equivalence test, never a failed test of a difference."""
    return Criterion(target - margin, target + margin, f"95 % interval within {target:g} ± {margin:g}")


def above(bound: float) -> Criterion:
    """All of the interval above a bound."""
    return Criterion(bound, math.inf, f"95 % interval above {bound:g}")


def below(bound: float) -> Criterion:
    """All of the interval below a bound."""
    return Criterion(-math.inf, bound, f"95 % interval below {bound:g}")


def sought_below(bound: float) -> Criterion:
    """All of the interval below a bound; above it the claim is open, since what exists somewhere may lie elsewhere."""
    return Criterion(-math.inf, bound, f"95 % interval below {bound:g}; open above", open_outside=True)


def other_than(value: float) -> Criterion:
    """Anything but a number, on whichever side; what is not shown to differ is open, never contradicted."""
    return Criterion(value, value, f"95 % interval without {value:g}", either_side=True)


@dataclass(frozen=True)
class Statistic:
    """An estimate, and the criterion that it must meet.

    Arguments:
        name: what it is. estimate: with its 95 % interval. errors: (standard error, degrees of freedom) of every t test
            that it must pass and that more seeds make sharper; the interval is the widest of theirs and of `scatter`'s.
            seeds: that it rests on. criterion: fixed before. scatter: the same of tests by the scatter about a line
            over widths, which more seeds alone do not lessen.
    """

    name: str
    estimate: Estimate
    errors: tuple[tuple[float, float], ...]
    seeds: int
    criterion: Criterion
    scatter: tuple[tuple[float, float], ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Supported: the interval lies in the region; contradicted: outside of it; else inconclusive."""
        own = self.estimate
        if not own.bounded:
            return "inconclusive"
        if self.criterion.either_side:
            return "inconclusive" if own.covers(self.criterion.low) else "supported"
        if self.criterion.low < own.low and own.high < self.criterion.high:
            return "supported"
        outside = own.high < self.criterion.low or own.low > self.criterion.high
        return "contradicted" if outside and not self.criterion.open_outside else "inconclusive"

    @property
    def p_value(self) -> float:
        """Of the worse of the two one-sided tests that the truth lies in the region; 1 where there is no interval.

        Where either side will do it is that of the two-sided test.
        """
        if not self.estimate.bounded or not (self.errors or self.scatter):
            return 1.0
        return max(self._p(error, degrees) for error, degrees in self.errors + self.scatter)

    def seeds_needed(self, level: float = 0.025) -> int | None:
        """With how many seeds tests at a level would pass, if the values stayed as they are.

        None where they would not: the value lies outside of the region, or the scatter about a line over widths, which
        more seeds do not lessen, already fails them.
        """
        if not self.estimate.bounded or not self.errors or not self._room > 0:
            return None
        if any(self._p(error, degrees) > level for error, degrees in self.scatter):
            return None

        def passes(seeds: int) -> bool:
            more = (seeds - 1) / (self.seeds - 1)
            return all(
                self._p(error * math.sqrt(self.seeds / seeds), degrees * more) <= level
                for error, degrees in self.errors
            )

        wanted = 2
        while wanted < 100_000 and not passes(wanted):
            wanted = math.ceil(1.1 * wanted)
        return wanted

    @property
    def _room(self) -> float:
        """From the value to the nearer end of the region; negative outside of it."""
        value, region = self.estimate.value, self.criterion
        return abs(value - region.low) if region.either_side else min(value - region.low, region.high - value)

    def _p(self, error: float, degrees: float) -> float:
        one_sided = _tail(self._room, error, degrees)
        return min(1.0, 2 * one_sided) if self.criterion.either_side else one_sided


def _tail(room: float, error: float, degrees: float) -> float:
    if not error:
        return 0.0 if room > 0 else 1.0
    return float(stdtr(degrees, -room / error))


def over_pairs(name: str, values: Values, unit: str, convention: str, criterion: Criterion) -> Statistic:
    """The mean of a number of each seed, where the two seeds of a pair depend on each other: the t interval of pairs.

    Arguments:
        values: [S], one a seed; those of the pairs (0, 1), (2, 3), … depend on each other, S even.
    """
    pairs = np.asarray(values, dtype=np.float64).reshape(-1, 2).mean(1)
    found = over_seeds(name, pairs, unit, convention, criterion)
    return replace(found, seeds=2 * found.seeds)


def over_seeds(
    name: str, values: Values, unit: str, convention: str, criterion: Criterion, resolution: float = 0.0
) -> Statistic:
    """The mean of a number of each seed, with its t interval; without one where there is a single seed.

    Arguments:
        values: [S], one a seed. resolution: the step of what is counted; its variance, step²/12, is added to that of
            the seeds, so that equal counts are not taken for certainty.
    Source:
        Sheppard 1898, for step²/12.
    """
    own = mean_over_seeds(np.asarray(values, dtype=np.float64), unit, convention)
    if resolution and len(values) > 1:
        half = two_sided(len(values) - 1) * math.sqrt(resolution**2 / 12 / len(values))
        wider = math.hypot((own.high - own.low) / 2, half)
        own = replace(own, low=own.value - wider, high=own.value + wider)
    return by_t(name, own, len(values), criterion)


def by_t(name: str, estimate: Estimate, seeds: int, criterion: Criterion) -> Statistic:
    """An estimate whose interval is the t interval of so many seeds."""
    error = (estimate.high - estimate.low) / 2 / two_sided(seeds - 1) if seeds > 1 else math.nan
    return Statistic(name, estimate, ((error, seeds - 1.0),) if math.isfinite(error) else (), seeds, criterion)


def same(name: str, difference: Values, control: Values, unit: str = "fraction") -> tuple[Statistic, Statistic]:
    """Whether two settings agree within max(½ point, a quarter of a control), and whether the control is detected.

    Two one-sided tests, of which the worse one is given.

    Arguments:
        difference: [S], of one setting and the other, seed by seed. control: [S], of one setting and a third, which
            must differ, on whichever side.
    Source:
        Schuirmann 1987; the margins of `docs/verdicts.md`, and `laws.equivalence`.
    """
    d, c = np.asarray(difference, dtype=np.float64), np.asarray(control, dtype=np.float64)
    effect = c if c.mean() >= 0 else -c
    allowed = SHARE * effect if SHARE * effect.mean() > MARGIN else np.full_like(d, MARGIN)
    sides = [
        over_seeds(
            f"{name}: |difference| − margin", sign * d - allowed, unit, "paired, the worse of both sides", below(0)
        )
        for sign in (1.0, -1.0)
    ]
    return (
        max(sides, key=lambda side: side.p_value),
        over_seeds(f"{name}: control", c, unit, "paired difference of the control", other_than(0)),
    )


def farthest(values: Values, target: float) -> Values:
    """Of K settings the one [S] whose mean over seeds is farthest from a target: a mean over settings would let their
    errors cancel.

    Arguments:
        values: [K, S].
    """
    found: Values = values[np.abs(values.mean(1) - target).argmax()]
    return found


class Judged(Protocol):
    """What a claim's outcome needs of a statistic, whether it was just found or kept in a file."""

    @property
    def outcome(self) -> Outcome:
        """Its own, at the level of its 95 % interval."""

    @property
    def p_value(self) -> float:
        """Of the test that the truth lies in the region."""


def joint_outcome(statistics: Sequence[Judged], level: float = 0.025) -> Outcome:
    """Of a claim with several statistics: all must be supported, and one contradicted is enough against it.

    Arguments:
        level: of each one-sided test; below 0.025 where several claims are tested together (Holm).
    """
    outcomes = [one.outcome for one in statistics]
    if "contradicted" in outcomes:
        return "contradicted"
    sure = all(outcome == "supported" for outcome in outcomes) and all(one.p_value <= level for one in statistics)
    return "supported" if statistics and sure else "inconclusive"


def holm_levels(p_values: dict[str, float], family: int, level: float = 0.025) -> dict[str, float]:
    """The level at which each of several tests is made, so that one false support among them stays below `level`.

    Arguments:
        family: number of tests that are made in all; those that are not among `p_values` count as the last.
    Source:
        Holm 1979: the smallest p-value is compared with level/k, the next with level/(k − 1), until one fails.
    """
    found, passed = {}, True
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        own = level / (max(family, len(p_values)) - rank)
        passed = passed and p_values[name] <= own
        found[name] = own if passed else 0.0
    return found
