"""Late-time averages: the mean of a curve over the last part of training, and its drift from the part before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np


def evaluation_steps(step_at: Callable[[Fraction], int], evaluations: int) -> list[int]:
    """Return the steps at which a run is evaluated: 0, and evenly spaced steps up to the end of the budget.

    Args:
        step_at: A function from a share of the budget to the number of steps after which it is done.
        evaluations: The number of evaluations after step 0.
    """
    return sorted({0} | {step_at(Fraction(index, evaluations)) for index in range(1, evaluations + 1)})


# Average one iterate in every 25 steps. Closer iterates are nearly identical, and adding an iterate to the average
# takes about a tenth of the time of a training step.
AVERAGE_EVERY = 25


def average_steps(first: int, steps: int) -> range:
    """Return the steps whose iterates are averaged: evenly spaced over the late window up to the last step.

    Args:
        first: The first step of the late window.
        steps: The budget, in steps.

    Source:
        Polyak, Juditsky 1992, for the average. The window is the late window of `late_windows`.
    """
    window = max(1, steps - first)
    spacing = min(AVERAGE_EVERY, max(1, window // 8))
    count = -(-window // spacing)
    return range(steps - (count - 1) * spacing, steps + 1, spacing)


def average_weight(step: int, decay: float | None, late_steps: range) -> float:
    """Return the weight w of an iterate in the average θ̄ ← θ̄ + w(θ − θ̄).

    With a decay d, w = 1 − d at every step, and the average starts at the first iterate. Without a decay, the average
    is the mean of the iterates at `late_steps`.

    Args:
        step: Number of the step, from 1.
        decay: Decay d of an exponential moving average; None for the mean.
        late_steps: Steps from `average_steps`.

    Returns:
        The weight; 0 for an iterate that does not enter the average.
    """
    if decay is not None:
        return 1.0 if step == 1 else 1 - decay
    return 1 / (1 + late_steps.index(step)) if step in late_steps else 0.0


def late_windows(evaluated: Sequence[float], late_fraction: float) -> tuple[slice, slice]:
    """Return the late window and the window of equal length before it, as slices of the curves.

    The late window contains the evaluations after (1 − late_fraction) of the budget, and always the last evaluation.

    Args:
        evaluated: The part of the budget that is done at each evaluation, in steps or as a share.
        late_fraction: The share of the budget that the late window covers.

    Source:
        Park, Sohl-Dickstein, Le, Smith 2019, for performance as the mean test accuracy at late times. We chose the
        length of the window.
    """
    last = evaluated[-1]
    length = max(1, sum(step > (1 - late_fraction) * last for step in evaluated))
    end = len(evaluated)
    return slice(end - length, end), slice(max(0, end - 2 * length), end - length)


def late_mean_and_drift(
    curve: Sequence[float], evaluated: Sequence[float], late_fraction: float
) -> tuple[float, float]:
    """Return the mean of a curve over the late window, and its difference from the mean over the window before."""
    late, before = late_windows(evaluated, late_fraction)
    mean = float(np.mean(curve[late]))
    earlier = curve[before]
    return mean, mean - float(np.mean(earlier)) if len(earlier) else float("nan")
