"""One axis of a grid: a list of numbers, or a geometric ladder {from, to, factor}."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator

LADDER_KEYS = {"from", "to", "factor"}

# The largest integer that a column of doubles holds exactly.
LARGEST_INTEGER = 2**53

# No useful ladder is longer. A factor of 1.0000001 is a typing error, and its ladder would fill the memory.
MOST_RUNGS = 1000


def rung(value: float) -> float:
    """Round a value of a ladder to 9 digits, so that it is the same number in every ladder that contains it."""
    return float(f"{value:.9g}")


def ladder(start: float, end: float, factor: float) -> tuple[float, ...]:
    """Return a geometric ladder of round(log(end/start)/log(factor)) + 1 values.

    Args:
        start: The first value.
        end: The last value.
        factor: The ratio of neighbouring values. It is adjusted so that the ladder ends exactly at `end`.

    Raises:
        ValueError: The ends are not positive or do not increase, the factor is not above 1, or there are too many
            values.
    """
    if not (0 < start <= end and factor > 1):
        raise ValueError("0 < from <= to and factor > 1")
    low, high = math.log(start), math.log(end)
    rungs = round((high - low) / math.log(factor))
    if rungs >= MOST_RUNGS:
        raise ValueError(f"a ladder of at most {MOST_RUNGS} values; got {rungs + 1}")
    inner_values = (rung(math.exp(low + (high - low) * step / rungs)) for step in range(1, rungs))
    return (start, *inner_values, end) if rungs else (start,)


def _axis(kind: type, bound: str, accepts: Callable[[float], bool], ladders: bool) -> Callable[[Any], tuple[Any, ...]]:
    word = "whole numbers" if kind is int else "numbers"
    required = f"a non-empty list of {word} {bound}" + (" or a ladder { from, to, factor }" if ladders else "")

    def parse(value: Any) -> tuple[Any, ...]:
        if isinstance(value, dict) and ladders:
            if set(value) != LADDER_KEYS or not all(_is_number(entry) for entry in value.values()):
                raise ValueError(f"{required}, with numbers for the keys from, to and factor")
            value = list(dict.fromkeys(kind(round(x)) if kind is int else x for x in ladder(*_ends(value))))
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(required)
        for entry in value:
            whole = kind is float or (isinstance(entry, int) and not isinstance(entry, bool))
            if not (_is_number(entry) and whole and accepts(entry)):
                raise ValueError(f"{required}; got the entry {entry!r}")
        return tuple(sorted({kind(entry) for entry in value}))

    return parse


def _ends(value: dict[str, float]) -> tuple[float, float, float]:
    return value["from"], value["to"], value["factor"]


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER
    return isinstance(value, float) and math.isfinite(value)


PositiveNumbers = Annotated[tuple[float, ...], BeforeValidator(_axis(float, "above 0", lambda x: x > 0, ladders=True))]
WholeNumbers = Annotated[tuple[int, ...], BeforeValidator(_axis(int, "above 0", lambda x: x > 0, ladders=True))]
NonNegativeNumbers = Annotated[
    tuple[float, ...], BeforeValidator(_axis(float, "of at least 0", lambda x: x >= 0, ladders=False))
]
Fractions = Annotated[
    tuple[float, ...], BeforeValidator(_axis(float, "from 0 to below 1", lambda x: 0 <= x < 1, ladders=False))
]
