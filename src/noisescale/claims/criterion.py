"""Criteria: regions in which statistics must lie. They are fixed before the runs that confirm a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["supported", "contradicted", "inconclusive"]


@dataclass(frozen=True)
class Criterion:
    """A region that must contain the whole interval of a statistic.

    Args:
        low: Lower end of the region.
        high: Upper end of the region.
        text: The criterion in words.
        either_side: Whether the region is every number except `low`, which then equals `high`.
        open_outside: Whether an interval outside the region leaves the claim open instead of contradicting it.
    """

    low: float
    high: float
    text: str
    either_side: bool = False
    open_outside: bool = False


def within(target: float, margin: float) -> Criterion:
    """Require the interval to lie within target ± margin.

    This is an equivalence test, which shows agreement. A test that fails to detect a difference does not.

    Args:
        target: Center of the region.
        margin: Half of the region's width.
    """
    return Criterion(target - margin, target + margin, f"95% interval within {target:g} ± {margin:g}")


def above(bound: float) -> Criterion:
    """Require the interval to lie above a bound.

    Args:
        bound: Lower end of the region.
    """
    return Criterion(bound, math.inf, f"95% interval above {bound:g}")


def below(bound: float) -> Criterion:
    """Require the interval to lie below a bound.

    Args:
        bound: Upper end of the region.
    """
    return Criterion(-math.inf, bound, f"95% interval below {bound:g}")


def below_or_open(bound: float) -> Criterion:
    """Require the interval to lie below a bound. An interval above the bound leaves the claim open.

    This suits a claim that something exists. If one experiment does not find it, it may still exist elsewhere.

    Args:
        bound: Upper end of the region.
    """
    return Criterion(-math.inf, bound, f"95% interval below {bound:g}; open above", open_outside=True)


def different_from(value: float) -> Criterion:
    """Require the interval to exclude a value, on either side. An interval that includes it leaves the claim open.

    Args:
        value: The excluded value.
    """
    return Criterion(value, value, f"95% interval excludes {value:g}", either_side=True)
