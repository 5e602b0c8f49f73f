"""The one exception that a user can cause and mend: bad input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """Input that cannot be used: the message says what is required, what was got, and names the key or file.

    The command line turns it into one message and exit code 2; it never shows a traceback.
    """

    def __init__(self, name: str, required: str, got: object | None = None) -> None:
        self.name = name
        self.required = required
        self.got = got
        tail = "" if got is None else f" Got: {_short(got)}."
        super().__init__(f"{_short(name)}: {required.rstrip('.')}.{tail}")


# Of what a user gave, the most that a message repeats.
_MOST_SHOWN = 600


def _short(value: object) -> str:
    """A value on one line, and what is too long for a message cut."""
    text = " ".join(str(value).splitlines())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """The tail of a message that gives the nearest known name, or nothing where none is near."""
    near = difflib.get_close_matches(value, list(known), n=1) if isinstance(value, str) else []
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown_name(key: str, known: Iterable[str], got: object, otherwise: str = "") -> BadInput:
    """The refusal of a name that is in no table, with the nearest one that is.

    Args:
        key: Of the spec.
        known: The table's names.
        got: The name that was given.
        otherwise: What else would be accepted.
    """
    names = list(known)
    return BadInput(key, f"one of {', '.join(names)}{otherwise}{did_you_mean(got, names)}", repr(got))
