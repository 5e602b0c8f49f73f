"""The outcome of a claim with several statistics, and the levels of several claims that are tested together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from noisescale.claims.criterion import Outcome


class Judged(Protocol):
    """A statistic with its outcome, computed now or read from a file."""

    @property
    def outcome(self) -> Outcome:
        """The outcome at the level of the 95% interval."""

    @property
    def p_value(self) -> float:
        """The p-value of the test of whether the truth lies in the region."""


def joint_outcome(statistics: Sequence[Judged], level: float = 0.025) -> Outcome:
    """Judge a claim by all of its statistics.

    Args:
        statistics: The statistics that the criterion tests.
        level: Level of each one-sided test. It is below 0.025 if several claims are tested together.

    Returns:
        "supported" if every statistic is supported at the level, "contradicted" if any is contradicted, and
        "inconclusive" otherwise.
    """
    outcomes = [statistic.outcome for statistic in statistics]
    if "contradicted" in outcomes:
        return "contradicted"
    supported = all(outcome == "supported" for outcome in outcomes)
    significant = all(statistic.p_value <= level for statistic in statistics)
    return "supported" if statistics and supported and significant else "inconclusive"


def holm_levels(p_values: Mapping[str, float], family: int, level: float = 0.025) -> dict[str, float]:
    """Compute the level of each test such that the probability of any false support stays below `level`.

    Holm's procedure compares the smallest p-value with level/k, the second smallest with level/(k − 1), and so on. It
    stops at the first p-value that is larger than its level.

    Args:
        p_values: The p-value of each claim, by id.
        family: Total number k of tests. Tests without a p-value in `p_values` rank last.
        level: Level for all tests together.

    Returns:
        The level of each claim, by id. It is 0 from the first failure on.

    Source:
        Holm 1979.
    """
    levels, passed = {}, True
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        step_level = level / (max(family, len(p_values)) - rank)
        passed = passed and p_values[name] <= step_level
        levels[name] = step_level if passed else 0.0
    return levels
