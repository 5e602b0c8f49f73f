"""The types of a spec's keys: each type checks a value, and its error message states what the key accepts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator

from noisescale.datasets import COLUMNS
from noisescale.errors import BadInput, did_you_mean
from noisescale.parameterizations import check_query_rows
from noisescale.sweeps.axes import LARGEST_INTEGER
from noisescale.training import BALANCED, Schedule, schedule_from

# Bounds far above any intended value, so that a typing error is refused instead of filling the memory. Seeds below 2^32
# are accepted by every random generator and fit in every column.
MOST_SEEDS, SEEDS_BELOW = 10_000, 2**32
MOST_STAGES, MOST_BLOCKS, MOST_STEM = 8, 200, 2**16
MOST_SHARES = 1000


class Section(BaseModel):
    """A section of a spec: unknown keys are refused, and so are numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def key(accepts: str, meaning: str, source: str = "", **field: Any) -> Any:
    """Return a field of a section with its row of the reference page.

    Args:
        accepts: Type and allowed values.
        meaning: What the key does.
        source: Author, year, section, or a measurement.
        **field: Default and bounds, as `pydantic.Field` takes them.

    Returns:
        The field.
    """
    return Field(description=meaning, json_schema_extra={"accepts": accepts, "source": source}, **field)


def _standardization(value: Any) -> bool | str | None:
    if value is None or isinstance(value, bool) or value == COLUMNS:
        return value  # type: ignore[no-any-return]
    raise ValueError(f"true, false or {COLUMNS!r}")


Standardization = Annotated[bool | str | None, PlainValidator(_standardization)]


def _average(value: Any) -> bool | dict[str, float]:
    if isinstance(value, bool):
        return value
    if value == "mean":
        return True
    decay: Any = value.get("ema") if isinstance(value, dict) and len(value) == 1 else None
    if type(decay) in (int, float) and 0 <= decay < 1:
        return {"ema": float(decay)}
    raise ValueError("true, false, 'mean' or a table { ema = 0.999 } with a number from 0 to below 1")


Average = Annotated[bool | dict[str, float], PlainValidator(_average)]


def _rate_multipliers(value: Any) -> dict[str, float]:
    entries = value if isinstance(value, dict) else {}
    numbers = all(type(factor) in (int, float) and 0 < factor < math.inf for factor in entries.values())
    if not entries or not numbers:
        raise ValueError("a table of patterns of parameter names with numbers above 0, e.g. { 'backbone.*' = 0.1 }")
    return {pattern: float(factor) for pattern, factor in entries.items()}


def _name_patterns(value: Any) -> tuple[str, ...]:
    entries = value if isinstance(value, list | tuple) else ()
    if not entries or any(not isinstance(entry, str) or not entry or entry.split() != [entry] for entry in entries):
        raise ValueError("a non-empty list of patterns of parameter names without spaces, e.g. ['head.*']")
    return tuple(dict.fromkeys(entries))


NamePatterns = Annotated[tuple[str, ...], BeforeValidator(_name_patterns)]
RateMultipliers = Annotated[dict[str, float], BeforeValidator(_rate_multipliers)]


def choices(names: Iterable[str]) -> str:
    """Return names as the reference page lists them."""
    return ", ".join(f'`"{name}"`' for name in names)


def one_of(names: Iterable[str], *, or_function: bool = False) -> BeforeValidator:
    """Accept one name of a table, and also "package.module:function" if a function of the user may take its place.

    Each check reads the table again, because rows may be added to it.
    """

    def check(value: Any) -> Any:
        known = tuple(names)
        if value not in known and not (or_function and isinstance(value, str) and ":" in value):
            other = ", or 'package.module:function'" if or_function else ""
            raise ValueError(f"one of {', '.join(map(repr, known))}{other}{did_you_mean(value, known)}")
        return value

    return BeforeValidator(check)


def names_from(table: Iterable[str]) -> BeforeValidator:
    """Accept a non-empty list of names from a table. Repeated names are dropped, and the order is kept."""

    def check(value: Any) -> tuple[str, ...]:
        known = tuple(table)
        if not isinstance(value, list | tuple) or not value or any(name not in known for name in value):
            raise ValueError(f"a non-empty list of names from {', '.join(map(repr, known))}")
        return tuple(dict.fromkeys(value))

    return BeforeValidator(check)


def some_of(names: Iterable[str]) -> BeforeValidator:
    """Accept any list of names from a table, and put the names in the order of the table."""

    def check(value: Any) -> tuple[str, ...]:
        known = tuple(names)
        if not isinstance(value, list | tuple) or any(name not in known for name in value):
            raise ValueError(f"a list of names from {', '.join(map(repr, known))}")
        return tuple(name for name in known if name in value)

    return BeforeValidator(check)


def _patterns(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value or any(not isinstance(entry, str) for entry in value):
        raise ValueError("a non-empty list of weights that make queries, e.g. ['blocks.*.qkv.weight[:1/3]']")
    try:
        check_query_rows(value)
    except BadInput as error:
        raise ValueError(error.required) from None
    return tuple(dict.fromkeys(value))


def _class_weights(value: Any) -> Any:
    numbers = isinstance(value, list | tuple) and value and all(type(x) in (int, float) and x > 0 for x in value)
    if not numbers and value != BALANCED:
        raise ValueError(f"{BALANCED!r}, or a list with a number above 0 for each class")
    return tuple(map(float, value)) if numbers else value


def _output_entry(value: Any) -> str:
    if type(value) is int and value >= 0:
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError("a key, an attribute, or an index of at least 0")


def _seeds(value: Any) -> Any:
    entries = range(value) if type(value) is int and 0 < value <= MOST_SEEDS else value
    whole = isinstance(entries, list | tuple | range) and all(type(e) is int and 0 <= e < SEEDS_BELOW for e in entries)
    if not whole or not entries:
        raise ValueError(
            f"a number of seeds from 1 to {MOST_SEEDS}, or a non-empty list of whole numbers from 0 to below 2^32"
        )
    return tuple(dict.fromkeys(entries))


def _blocks(value: Any) -> Any:
    whole = isinstance(value, list | tuple) and all(type(e) is int and 0 < e <= MOST_BLOCKS for e in value)
    if not whole or not 0 < len(value) <= MOST_STAGES:
        raise ValueError(f"a list of 1 to {MOST_STAGES} stages, each a whole number of blocks from 1 to {MOST_BLOCKS}")
    return tuple(value)


def _schedule(value: Any) -> Schedule:
    if isinstance(value, Schedule):
        return value
    if not isinstance(value, dict):
        raise ValueError("a table such as { kind = 'cosine' }")
    try:
        return schedule_from(value)
    except BadInput as error:
        raise ValueError(f"for its key {error.name!r} {error.required}; got {error.got}") from None


def _schedules(value: Any) -> tuple[Schedule, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("a non-empty list of tables such as { kind = 'cosine' }")
    return tuple(dict.fromkeys(map(_schedule, value)))


def _shares(value: Any) -> tuple[float, ...]:
    numbers = isinstance(value, list | tuple) and all(type(x) in (int, float) and 0 <= x <= 1 for x in value)
    if not numbers or not 0 < len(value) <= MOST_SHARES:
        raise ValueError(f"a list of 1 to {MOST_SHARES} shares of the budget, each from 0 to 1")
    return tuple(sorted({float(x) for x in value}))


Blocks = Annotated[tuple[int, ...], BeforeValidator(_blocks)]
ClassWeights = Annotated[str | tuple[float, ...], BeforeValidator(_class_weights)]
OutputEntry = Annotated[str, PlainValidator(_output_entry)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_seeds)]
Count = Annotated[int, Field(gt=0, le=LARGEST_INTEGER)]
Shares = Annotated[tuple[float, ...], BeforeValidator(_shares)]
OneSchedule = Annotated[Schedule, PlainValidator(_schedule), PlainSerializer(lambda schedule: schedule.table)]
Schedules = Annotated[
    tuple[Schedule, ...],
    PlainValidator(_schedules),
    PlainSerializer(lambda schedules: [schedule.table for schedule in schedules] if schedules else None),
]
