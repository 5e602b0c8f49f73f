"""The one exception that a user can cause and mend: bad input."""

from __future__ import annotations


class BadInput(ValueError):
    """Input that cannot be used: the message says what is required, what was got, and names the key or file.

    The command line turns it into one message and exit code 2; it never shows a traceback.
    """

    def __init__(self, name: str, required: str, got: object | None = None) -> None:
        self.name = name
        self.required = required
        tail = "" if got is None else f" Got: {got}."
        super().__init__(f"{name}: {required.rstrip('.')}.{tail}")
