"""What makes a function of a `Problem` an instrument: it also takes a model, a loss and data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from torch import nn

from noisescale.measure.problem import Data, LossFunction, Problem

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

# Keyword arguments of `Problem` that a call with a model may give.
_OPTIONS = ("learning_rate_multipliers", "mode", "chunk")
_INPUTS = ("model", "loss", "data")


class Instrument(Protocol[P, R_co]):
    """A measurement of a problem, or of a model, a loss and data from which the problem is made."""

    __name__: str

    @overload
    def __call__(self, problem: Problem, *arguments: P.args, **options: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, model: nn.Module, loss: LossFunction, data: Data, *arguments: Any, **options: Any) -> R_co: ...


def instrument(function: Callable[Concatenate[Problem, P], R_co], **defaults: Any) -> Instrument[P, R_co]:
    """Let an instrument take `(model, loss, data, …)` in the place of a problem.

    The keyword arguments of `Problem` (learning_rate_multipliers, mode, chunk) are then accepted too. A `Problem` that
    is made once and given to several instruments checks its data once.

    Args:
        function: The measurement of a problem.
        **defaults: Arguments of `Problem` that differ from its defaults.

    Returns:
        The instrument, with the name and the documentation of the function.
    """

    @functools.wraps(function)
    def measured(*arguments: Any, **options: Any) -> R_co:
        if "problem" in options or (arguments and isinstance(arguments[0], Problem)):
            return function(*arguments, **options)
        named = [options.pop(name) for name in _INPUTS[len(arguments) :] if name in options]
        model, loss, data, *rest = (*arguments, *named)
        of_problem = {**defaults, **{name: options.pop(name) for name in _OPTIONS if name in options}}
        return function(Problem(model, loss, data, **of_problem), *rest, **options)

    return cast(Instrument[P, R_co], measured)
