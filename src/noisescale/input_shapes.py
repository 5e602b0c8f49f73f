"""The shapes of inputs that are sequences of tokens, or several arrays by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class TokenShape(tuple[int, ...]):
    """The shape (T,) of a sequence of T tokens, whole numbers from 0 to V − 1. It equals the tuple (T,).

    Args:
        lengths: The lengths of the axes, (T,).
        vocabulary: V, the number of kinds of tokens.
    """

    vocabulary: int

    def __new__(cls, lengths: Iterable[int], vocabulary: int) -> TokenShape:
        """Make the tuple, and remember the number of kinds."""
        shape = super().__new__(cls, lengths)
        shape.vocabulary = vocabulary
        return shape

    def __getnewargs__(self) -> tuple[tuple[int, ...], int]:
        """Return the arguments with which a copy is made, e.g. in another process."""
        return tuple(self), self.vocabulary

    def __eq__(self, other: object) -> bool:
        """Two token shapes are equal if their kinds are too."""
        return tuple.__eq__(self, other) is True and getattr(other, "vocabulary", self.vocabulary) == self.vocabulary

    def __ne__(self, other: object) -> bool:
        """Return the opposite of `==`."""
        return not self == other

    def __hash__(self) -> int:
        """Return the tuple's hash."""
        return tuple.__hash__(self)


def vocabulary_of(shape: InputShape) -> int | None:
    """Return the number of kinds of tokens; None for inputs of real numbers.

    Args:
        shape: The shape of one input.
    """
    return shape.vocabulary if isinstance(shape, TokenShape) else None


NUMBERS, WHOLE, FLAGS = "numbers", "whole numbers", "flags"


class NamedShapes(dict[str, tuple[int, ...]]):
    """The shapes of inputs by name: a dictionary that also knows what the entries hold, and that has a hash.

    Args:
        shapes: The shape of one example of each entry, a `TokenShape` for tokens.
        kinds: What each entry holds: `NUMBERS`, `WHOLE` or `FLAGS`.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str]) -> None:
        super().__init__(shapes)
        self.kinds = dict(kinds)

    def __reduce__(self) -> tuple[type, tuple[dict[str, tuple[int, ...]], dict[str, str]]]:
        """Return how a copy is made, e.g. in another process."""
        return NamedShapes, (dict(self), self.kinds)

    def __hash__(self) -> int:  # type: ignore[override]
        """Return the hash of the names and shapes."""
        return hash(tuple(self.items()))


InputShape = tuple[int, ...] | NamedShapes
