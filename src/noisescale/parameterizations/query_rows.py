"""Query rows: the rows of a projection that make an attention's queries, as a user names them."""

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


def select_query_rows(patterns: Sequence[str], found: Mapping[str, Place]) -> dict[str, Rows]:
    """The rows that the patterns name, by parameter; the bias of a named layer follows its weight.

    A pattern is the name of a linear layer's weight, in which * and ? are wildcards, and a range in fractions of its
    rows, because rows grow with width: "attention.query.weight", "blocks.*.qkv.weight[:1/3]". Several patterns may name
    several ranges of one tensor.

    Args:
        patterns: As the user wrote them.
        found: As `places` gives them.

    Raises:
        BadInput: A pattern of another form, without a match, between rows, or on a tensor that makes no queries.
    """
    chosen: dict[str, set[tuple[int, int]]] = {}
    for pattern in patterns:
        name, start, stop = _parse(pattern)
        matches = [key for key in found if fnmatchcase(key, name)]
        if not matches:
            raise BadInput(KEY, f"the name of a parameter of the model; it has {', '.join(found)}", repr(pattern))
        for key in matches:
            chosen.setdefault(key, set()).add(_rows(pattern, key, found[key], start, stop))
    rows = {key: tuple(sorted(ranges)) for key, ranges in chosen.items()}
    return {name: rows[weight] for name, place in found.items() if (weight := place.weight or name) in rows}


def check_query_rows(patterns: Sequence[str]) -> None:
    """Refuse what is no pattern, before any model is built.

    Raises:
        BadInput: A pattern of another form.
    """
    for pattern in patterns:
        _parse(pattern)


def _parse(pattern: str) -> tuple[str, Fraction, Fraction]:
    found = _PATTERN.fullmatch(pattern)
    try:
        if found is None:
            raise ValueError
        start, stop = Fraction(found["start"] or 0), Fraction(found["stop"] or 1)
    except (ValueError, ZeroDivisionError):
        raise BadInput(KEY, _FORM, repr(pattern)) from None
    if not 0 <= start < stop <= 1:
        raise BadInput(KEY, f"{_FORM}, and 0 <= from < to <= 1", repr(pattern))
    return found["name"], start, stop


def _rows(pattern: str, name: str, place: Place, start: Fraction, stop: Fraction) -> tuple[int, int]:
    units = place.shape[0] if place.shape else 0
    ends = start * units, stop * units
    if any(end.denominator != 1 for end in ends):
        raise BadInput(KEY, f"ends that fall between the rows of {name!r}, which has {units}", repr(pattern))
    rows = int(ends[0]), int(ends[1])
    # Torch's own attention knows its queries; naming them again changes nothing.
    if not place.takes_rows and place.query_rows != (rows,):
        required = (
            "the weight of a linear layer that makes queries (its bias follows); no other tensor can absorb the factor "
            "1/√d of attention"
        )
        raise BadInput(KEY, required, repr(pattern))
    return rows
