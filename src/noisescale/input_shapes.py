"""The shape of one input that is a sequence of tokens: a tuple that also knows the number of kinds of tokens."""

from __future__ import annotations

from collections.abc import Iterable


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


def vocabulary_of(shape: tuple[int, ...]) -> int | None:
    """Return the number of kinds of tokens; None for inputs of real numbers.

    Args:
        shape: The shape of one input.
    """
    return shape.vocabulary if isinstance(shape, TokenShape) else None
