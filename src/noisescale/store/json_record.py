"""Reading of the small JSON records beside a study's runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from noisescale.errors import BadInput, check_texts

Record = TypeVar("Record")


def read_record(path: Path, required: str, parse: Callable[[Any], Record]) -> Record | None:
    """Read a record; None if there is no such file.

    Args:
        path: The file.
        required: What the file must hold, and how to get it, for the message.
        parse: Makes the record from the values of the file. It raises ValueError, LookupError, TypeError or
            AttributeError if they are not those of a record.

    Raises:
        BadInput: The file is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        check_texts(values)
        return parse(values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise BadInput(str(path), required, "something else") from None


def positive(sizes: tuple[Any, ...]) -> None:
    """Check that sizes are whole numbers above 0.

    Raises:
        ValueError: A size is not.
    """
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError("sizes must be positive integers")
