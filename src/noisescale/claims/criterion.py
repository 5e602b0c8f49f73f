"""What a statistic must do for a claim to be supported; fixed before the run that confirms it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from noisescale.laws.interval import Estimate, two_sided

Outcome = Literal["supported", "contradicted", "inconclusive"]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Criterion:
    """A region in which a statistic must lie, with its whole interval.

    Arguments:
        low, high: its ends. text: in words.
    """

    low: float
    high: float
    text: str


def within(target: float, margin: float) -> Criterion:
    """Target ± margin: an equivalence test, never a failed test of a difference."""
    return Criterion(target - margin, target + margin, f"95 % interval within {target:g} ± {margin:g}")


def above(bound: float) -> Criterion:
    """All of the interval above a bound."""
    return Criterion(bound, math.inf, f"95 % interval above {bound:g}")


def below(bound: float) -> Criterion:
    """All of the interval below a bound."""
    return Criterion(-math.inf, bound, f"95 % interval below {bound:g}")


@dataclass(frozen=True)
class Statistic:
    """A number of each seed, and the criterion that its mean must meet.

    Arguments:
        name: what it is. values: [S], one a seed. unit, convention: as an `Estimate` has them. criterion: fixed before.
    """

    name: str
    values: Values
    unit: str
    convention: str
    criterion: Criterion

    @property
    def estimate(self) -> Estimate:
        """The mean over seeds with its t interval; without one where there is a single seed."""
        n, mean = len(self.values), float(np.mean(self.values))
        half = two_sided(n - 1) * self._error if n > 1 else math.nan
        return Estimate(mean, mean - half, mean + half, self.unit, self.convention)

    @property
    def outcome(self) -> Outcome:
        """Supported: the interval lies in the region; contradicted: outside of it; else inconclusive."""
        own = self.estimate
        if not (math.isfinite(own.low) and math.isfinite(own.high)):
            return "inconclusive"
        if self.criterion.low <= own.low and own.high <= self.criterion.high:
            return "supported"
        return "contradicted" if own.high < self.criterion.low or own.low > self.criterion.high else "inconclusive"

    @property
    def p_value(self) -> float:
        """Of the worse of the two one-sided tests that the mean lies in the region; 1 where there is one seed."""
        n, mean = len(self.values), float(np.mean(self.values))
        if n < 2 or not math.isfinite(mean):
            return 1.0
        ends = [mean - self.criterion.low, self.criterion.high - mean]
        if not self._error:
            return 0.0 if min(ends) >= 0 else 1.0
        return max(float(stdtr(n - 1, -end / self._error)) for end in ends)

    @property
    def seeds_needed(self) -> int | None:
        """With how many seeds an interval of this spread would lie in the region; None where the mean does not."""
        mean, n = float(np.mean(self.values)), len(self.values)
        room = min(mean - self.criterion.low, self.criterion.high - mean)
        if n < 2 or not room > 0:
            return None
        spread = float(np.std(self.values, ddof=1))
        wanted = 2
        while wanted < 100_000 and two_sided(wanted - 1) * spread / math.sqrt(wanted) > room:
            wanted = math.ceil(1.1 * wanted)
        return wanted

    @property
    def _error(self) -> float:
        return float(np.std(self.values, ddof=1)) / math.sqrt(len(self.values))


def joint_outcome(statistics: tuple[Statistic, ...], level: float = 0.025) -> Outcome:
    """Of a claim with several statistics: all must be supported, and one contradicted is enough against it.

    Arguments:
        level: of each one-sided test; below 0.025 where several claims are tested together (Holm).
    """
    outcomes = [one.outcome for one in statistics]
    if "contradicted" in outcomes:
        return "contradicted"
    sure = all(outcome == "supported" for outcome in outcomes) and all(one.p_value <= level for one in statistics)
    return "supported" if statistics and sure else "inconclusive"


def holm_levels(p_values: dict[str, float], level: float = 0.025) -> dict[str, float]:
    """The level at which each of several tests is made, so that one false support among them stays below `level`.

    Source:
        Holm 1979: the smallest p-value is compared with level/k, the next with level/(k − 1), until one fails.
    """
    found, passed = {}, True
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        own = level / (len(p_values) - rank)
        passed = passed and p_values[name] <= own
        found[name] = own if passed else 0.0
    return found
