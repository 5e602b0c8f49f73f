"""Inputs of the shape and the kind of the data, for trial passes."""

from __future__ import annotations

import torch
from torch import Tensor

from noisescale.input_shapes import vocabulary_of


def zero_inputs(input_shape: tuple[int, ...], examples: int) -> Tensor:
    """Return inputs of zeros, shape [B, …]: whole numbers if inputs are tokens.

    Args:
        input_shape: Shape of one example.
        examples: B.
    """
    kind = torch.float32 if vocabulary_of(input_shape) is None else torch.int64
    return torch.zeros(examples, *input_shape, dtype=kind)


def random_inputs(input_shape: tuple[int, ...], examples: int) -> Tensor:
    """Return inputs of zeros and ones at random, shape [B, …]. A module may use them as indices.

    Args:
        input_shape: Shape of one example.
        examples: B.
    """
    kinds = min(2, vocabulary_of(input_shape) or 2)
    drawn = torch.randint(kinds, (examples, *input_shape), generator=torch.Generator().manual_seed(0))
    return drawn.to(zero_inputs(input_shape, 1).dtype)
