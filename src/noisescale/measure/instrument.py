"""Turns a function of a `Problem` into an instrument, which also takes a model, a loss and data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from torch import nn

from noisescale.measure.problem import Data, LossFunction, Problem

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

# Keyword arguments that an instrument passes to `Problem`.
_OPTIONS = ("learning_rate_multipliers", "mode", "chunk", "outputs")
_INPUTS = ("model", "loss", "data")


class Instrument(Protocol[P, R_co]):
    """A measurement. It takes a `Problem`, or a model, a loss and data from which it builds the problem."""

    __name__: str

    @overload
    def __call__(self, problem: Problem, *arguments: P.args, **options: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, model: nn.Module, loss: LossFunction, data: Data, *arguments: Any, **options: Any) -> R_co: ...


def instrument(function: Callable[Concatenate[Problem, P], R_co], **defaults: Any) -> Instrument[P, R_co]:
    """Turn a function of a `Problem` into a function that also takes `(model, loss, data, …)` in place of the problem.

    The new function also takes the keyword arguments `learning_rate_multipliers`, `mode`, `chunk` and `outputs` of
    `Problem`. A `Problem` checks its data when it is built, so several instruments on one `Problem` check the data only
    once.

    Args:
        function: A measurement of a problem.
        **defaults: Arguments of `Problem` that replace its default values.

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
