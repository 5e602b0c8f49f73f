"""Query rows: the rows of a projection that make the queries of an attention. The user names them by patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction

from noisescale.errors import BadInput
from noisescale.parameterizations.places import Place, Rows

KEY = "model.query_rows"

_FORM = "'name', or 'name[from:to]' with fractions of the tensor's rows, as in 'blocks.*.qkv.weight[:1/3]'"
_PATTERN = re.compile(r"(?P<name>[^\s\[\]]+)(\[(?P<start>[^\s:\]]*):(?P<stop>[^\s:\]]*)\])?")


def select_query_rows(patterns: Sequence[str], places: Mapping[str, Place]) -> dict[str, Rows]:
    """Select the rows named by patterns. The bias of a layer gets the same rows as the weight.

    A pattern is the name of a linear layer's weight, with an optional range of rows. Examples are
    "attention.query.weight" and "blocks.*.qkv.weight[:1/3]". In the name, * and ? are wildcards. Ranges are fractions,
    because the number of rows grows with width. Several patterns may name several ranges of one tensor.

    Args:
        patterns: Patterns from the user.
        places: The places of the parameters, from `find_places`.

    Returns:
        The query rows by parameter name.

    Raises:
        BadInput: A pattern has another form, matches no parameter, ends between two rows, or names a tensor that cannot
            make queries.
    """
    chosen: dict[str, set[tuple[int, int]]] = {}
    for pattern in patterns:
        name, start, stop = _parse(pattern)
        matches = [key for key in places if fnmatchcase(key, name)]
        if not matches:
            raise BadInput(KEY, f"the name of a parameter of the model; it has {', '.join(places)}", repr(pattern))
        for key in matches:
            chosen.setdefault(key, set()).add(_rows(pattern, key, places[key], start, stop))
    rows = {key: tuple(sorted(ranges)) for key, ranges in chosen.items()}
    return {name: rows[weight] for name, place in places.items() if (weight := place.weight or name) in rows}


def check_query_rows(patterns: Sequence[str]) -> None:
    """Check the form of patterns before a model is built.

    Args:
        patterns: Patterns from the user.

    Raises:
        BadInput: A pattern has another form.
    """
    for pattern in patterns:
        _parse(pattern)


def _parse(pattern: str) -> tuple[str, Fraction, Fraction]:
    match = _PATTERN.fullmatch(pattern)
    try:
        if match is None:
            raise ValueError
        start, stop = Fraction(match["start"] or 0), Fraction(match["stop"] or 1)
    except (ValueError, ZeroDivisionError):
        raise BadInput(KEY, _FORM, repr(pattern)) from None
    if not 0 <= start < stop <= 1:
        raise BadInput(KEY, f"{_FORM}, and 0 <= from < to <= 1", repr(pattern))
    return match["name"], start, stop


def _rows(pattern: str, name: str, place: Place, start: Fraction, stop: Fraction) -> tuple[int, int]:
    units = place.shape[0] if place.shape else 0
    ends = start * units, stop * units
    if any(end.denominator != 1 for end in ends):
        raise BadInput(KEY, f"fractions that are whole rows of {name!r}, which has {units} rows", repr(pattern))
    rows = int(ends[0]), int(ends[1])
    # The query rows of torch's attention are known. A pattern may name exactly these rows again.
    if not place.takes_rows and place.query_rows != (rows,):
        required = (
            "the weight of a linear layer that makes queries (its bias is included); no other tensor can take the "
            "factor 1/√d of attention"
        )
        raise BadInput(KEY, required, repr(pattern))
    return rows
