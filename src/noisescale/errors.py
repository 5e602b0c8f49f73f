"""The error for bad input, which the user can correct, and helpers that word its message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """Input that cannot be used. The message names the key or file, and states what is required and what was given.

    The command line prints the message without a traceback and exits with code 2.

    Args:
        name: The key, option or file.
        required: What is required.
        got: What was given; None leaves this part out.
    """

    def __init__(self, name: str, required: str, got: object | None = None) -> None:
        self.name = name
        self.required = required
        self.got = got
        tail = "" if got is None else f" Got: {_short(got)}."
        super().__init__(f"{_short(name)}: {required.rstrip('.')}.{tail}")


# Largest number of characters of the user's input in a message.
_MAX_SHOWN = 600


def _short(value: object) -> str:
    """Format a value on one line, and cut the text if it is too long."""
    text = " ".join(str(value).splitlines())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """Suggest the nearest known name.

    Args:
        value: The unknown name.
        known: All known names.

    Returns:
        The end of a message, or "" if no known name is similar.
    """
    similar = difflib.get_close_matches(value, list(known), n=1) if isinstance(value, str) else []
    return f" (did you mean {similar[0]!r}?)" if similar else ""


def unknown_name(key: str, known: Iterable[str], got: object, otherwise: str = "") -> BadInput:
    """Build the error for an unknown name, with a suggestion of the nearest known name.

    Args:
        key: The key of the spec, or the option.
        known: All known names.
        got: The name that was given.
        otherwise: Text that is appended to the list of names, for other accepted values.

    Returns:
        The error, to be raised.
    """
    names = list(known)
    return BadInput(key, f"one of {', '.join(names)}{otherwise}{did_you_mean(got, names)}", repr(got))
