"""Turns a function of a `Problem` into an instrument, which also takes a model, a loss and data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from torch import nn

from noisescale.measure.problem import Data, LossFunction, Problem

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

# Keyword arguments that an instrument passes on to `Problem`.
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
    """Let a function of a problem take `(model, loss, data, …)` in place of the problem.

    It then also takes the keyword arguments `learning_rate_multipliers`, `mode` and `chunk` of `Problem`. A `Problem`
    checks its data when it is made, so several instruments on one `Problem` check them only once.

    Args:
        function: A measurement of a problem.
        **defaults: Arguments of `Problem` where they differ from its defaults.

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
