"""Refuses random numbers that do not follow from the seed of a run, because a module begins to draw in a later pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from noisescale.errors import BadInput
from noisescale.seeding import drawn_from

_Result = TypeVar("_Result")


def without_draws(call: Callable[[], _Result]) -> _Result:
    """Call a function that draws from no generator but those that it seeds and restores itself.

    Args:
        call: A function without arguments, e.g. some steps of training.

    Returns:
        What the function returns.

    Raises:
        BadInput: It drew from torch's, NumPy's or Python's generator.
    """
    results: list[_Result] = []
    drawn = drawn_from(lambda: results.append(call()))
    if drawn:
        required = "a module that draws random numbers in its first pass if in any, so that the seed of the run is used"
        raise BadInput("model.family", required, f"numbers from {drawn[0]}'s generator in a later pass")
    return results[0]
