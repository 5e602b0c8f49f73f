"""The error for bad input, which the user can correct, and helpers that word its message."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from typing import TypeGuard


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
# A tab, the end of a line, and the characters that join letters and emoji.
_HARMLESS = "\t\n\u200c\u200d"


def printable(text: str) -> str:
    """Return a text on one line, with control characters escaped, and cut if it is too long.

    Args:
        text: Any text, e.g. of a file or of an exception.
    """
    line = " ".join(text.splitlines())
    # Escapes are longer than the characters that they stand for.
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line[: _MAX_SHOWN + 1])
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"


def control_characters(text: str) -> str:
    """Return the characters of a text that could steer a terminal. A tab and the end of a line could not.

    Args:
        text: Any text.
    """
    return "".join(
        char
        for char in ("" if text.isprintable() else text)
        if not (char.isprintable() or char in _HARMLESS or unicodedata.category(char) == "Zs")
    )


def check_texts(value: object, key: str = "") -> None:
    """Check that no text in nested values of JSON has characters that could steer a terminal.

    Args:
        value: The values.
        key: The key of the values, e.g. "model.family".

    Raises:
        ValueError: A text has such a character. The message names its key.
    """
    if isinstance(value, str):
        if steering := control_characters(value):
            raise ValueError(f"the control character {ascii(steering[0])}{f' in {key}' if key else ''}")
    elif isinstance(value, dict):
        for name, entry in value.items():
            check_texts(name, f"a key of {key}" if key else "a key")
            check_texts(entry, f"{key}.{name}" if key else str(name))
    elif _is_list(value):
        for entry in value:
            check_texts(entry, key)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def one_line(error: BaseException) -> str:
    """Describe an exception on one line, by its type and the first line of its text.

    Args:
        error: Any exception, also one whose text cannot be read.
    """
    try:
        lines = str(error).strip().splitlines()
    except Exception as failure:  # a user's class of exceptions may fail to describe itself
        lines = [f"its text raises {type(failure).__name__}"]
    return printable(": ".join([type(error).__name__, *lines[:1]]))


def _short(value: object) -> str:
    try:
        return printable(str(value))
    except Exception as failure:  # a user's class may fail to describe itself
        return f"a {type(value).__name__} whose text raises {type(failure).__name__}"


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
