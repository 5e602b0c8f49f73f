"""Late-time averages: the mean of a curve over its last window, and its drift since the window before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np


def evaluation_steps(step_at: Callable[[Fraction], int], evaluations: int) -> list[int]:
    """The steps at which a run is evaluated: 0, then `evaluations` of them evenly spaced over the budget up to its end.

    Args:
        step_at: The step at a share of the budget.
        evaluations: Their number.
    """
    return sorted({0} | {step_at(Fraction(part + 1, evaluations)) for part in range(evaluations)})


# Iterates this many steps apart are averaged: nearer ones say little that is new, and each costs what a tenth of a step
# does.
AVERAGE_EVERY = 25


def average_steps(first: int, steps: int) -> range:
    """The steps whose iterates are averaged: evenly spaced over the late window, the last step among them.

    Args:
        first: The step with which the late window begins.
        steps: Budget, in steps.

    Source:
        Polyak, Juditsky 1992, for the average; the window is that of the late-time means.
    """
    window = max(1, steps - first)
    spacing = min(AVERAGE_EVERY, max(1, window // 8))
    count = -(-window // spacing)
    return range(steps - (count - 1) * spacing, steps + 1, spacing)


def late_windows(evaluated: Sequence[float], late_fraction: float) -> tuple[slice, slice]:
    """The late window, and the window of as many evaluations before it, as slices of the curves.

    The late window holds the evaluations after (1 − late_fraction) of the budget, at least one.

    Args:
        evaluated: Steps of the evaluations, or whatever else the budget is counted in.
        late_fraction: Share of it.

    Source:
        Park, Sohl-Dickstein, Le, Smith 2019: performance is the mean test accuracy at late times; the window is ours.
    """
    last = evaluated[-1]
    length = max(1, sum(step > (1 - late_fraction) * last for step in evaluated))
    end = len(evaluated)
    return slice(end - length, end), slice(max(0, end - 2 * length), end - length)


def late_mean_and_drift(
    curve: Sequence[float], evaluated: Sequence[float], late_fraction: float
) -> tuple[float, float]:
    """The mean of a curve over its late window, and that mean minus the mean over the window before."""
    late, before = late_windows(evaluated, late_fraction)
    mean = float(np.mean(curve[late]))
    earlier = curve[before]
    return mean, mean - float(np.mean(earlier)) if len(earlier) else float("nan")
