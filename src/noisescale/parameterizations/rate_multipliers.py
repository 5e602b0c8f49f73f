"""Factors of the learning rate for parameters that patterns of names select."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from noisescale.errors import BadInput
from noisescale.parameterizations.tables import Row, Table

_KEY = "model.rate_multipliers"
# Largest number of names that a message lists.
_MOST_NAMES = 10


def multiply_rates(table: Table, factors: Mapping[str, float]) -> Table:
    """Multiply the rates of parameters, on top of the rate multipliers of the parameterization.

    Args:
        table: The parameterization's table.
        factors: Factors by pattern of names, as `fnmatch` reads it, e.g. `{"backbone.*": 0.1}`. A tied parameter is
            selected by any of its names.

    Returns:
        The table with a `rate_factor` for each selected parameter.

    Raises:
        BadInput: A pattern selects no trained parameter, or two patterns select the same parameter.
    """
    selected: dict[str, str] = {}
    for pattern in factors:
        names = [row.name for row in table if any(fnmatchcase(name, pattern) for name in _names(row))]
        if not names:
            known = [row.name for row in table]
            more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
            required = f"patterns that match a trained parameter: {', '.join(known[:_MOST_NAMES])}{more}"
            raise BadInput(_KEY, required, repr(pattern))
        for name in names:
            if name in selected:
                required = f"one pattern for each parameter; {name} has two"
                raise BadInput(_KEY, required, f"{selected[name]!r} and {pattern!r}")
            selected[name] = pattern
    return tuple(
        replace(row, rate_factor=factors[selected[row.name]]) if row.name in selected else row for row in table
    )


def _names(row: Row) -> list[str]:
    return [row.name, *(tied.name for tied in row.parameter.tied)]


def multipliers_text(factors: Mapping[str, float]) -> str:
    """Return factors as the text that a run stores; empty without factors."""
    return json.dumps(dict(sorted(factors.items()))) if factors else ""


def multipliers_of_text(text: str) -> dict[str, float]:
    """Return the factors from the text of a run."""
    return {str(pattern): float(factor) for pattern, factor in json.loads(text).items()} if text else {}
