"""Inputs in the form that a module takes: whole numbers in 64 bits."""

from __future__ import annotations

from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """Return whole numbers as 64-bit numbers, which embeddings and losses take, and real numbers as they are."""
    return tensor if tensor.is_floating_point() else tensor.long()
