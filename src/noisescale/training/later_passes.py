"""Refuses what a module begins to do in a later pass: to draw random numbers, or to change settings of the process.

The first pass shows whether a module does. To look in every pass would take a tenth of the time of a small step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from noisescale.errors import BadInput
from noisescale.seeding import drawn_from
from noisescale.user_code import ProcessState

_Result = TypeVar("_Result")


def like_the_first(call: Callable[[], _Result]) -> _Result:
    """Call a function that does nothing which only its later passes do.

    Args:
        call: A function without arguments, e.g. some steps of training.

    Returns:
        What the function returns.

    Raises:
        BadInput: It drew from torch's, NumPy's or Python's generator without restoring it, or it changed a setting.
    """
    results: list[_Result] = []
    state = ProcessState()
    drawn = drawn_from(lambda: results.append(call()))
    if drawn:
        required = "a module that draws random numbers in its first pass if in any, so that the seed of the run is used"
        raise BadInput("model.family", required, f"numbers from {drawn[0]}'s generator in a later pass")
    if settings := state.restore():
        required = "a module that changes settings of the process in its first pass if in any"
        raise BadInput("model.family", required, f"a change of {' and '.join(settings)} in a later pass")
    return results[0]
