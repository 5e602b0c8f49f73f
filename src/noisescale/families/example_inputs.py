"""Inputs of the shape and the kind of the data, for trial passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from noisescale.input_shapes import FLAGS, NUMBERS, WHOLE, InputShape, NamedShapes, vocabulary_of
from noisescale.named_inputs import Inputs, NamedInputs

_DTYPES = {NUMBERS: torch.float32, WHOLE: torch.int64, FLAGS: torch.bool}


def zero_inputs(input_shape: InputShape, examples: int) -> Inputs:
    """Return inputs of zeros, shape [B, …]: whole numbers if inputs are tokens.

    Args:
        input_shape: Shape of one example.
        examples: B.
    """
    return _inputs(input_shape, lambda shape, _vocabulary: torch.zeros(examples, *shape))


def random_inputs(input_shape: InputShape, examples: int) -> Inputs:
    """Return inputs of zeros and ones at random, shape [B, …]. A module may use them as indices.

    Args:
        input_shape: Shape of one example.
        examples: B.
    """
    generator = torch.Generator().manual_seed(0)
    return _inputs(
        input_shape,
        lambda shape, vocabulary: torch.randint(min(2, vocabulary or 2), (examples, *shape), generator=generator),
    )


def _inputs(input_shape: InputShape, make: Callable[[tuple[int, ...], int | None], Tensor]) -> Inputs:
    if isinstance(input_shape, NamedShapes):
        tensors = {name: make(shape, vocabulary_of(shape)) for name, shape in input_shape.items()}
        return NamedInputs({name: tensor.to(_DTYPES[input_shape.kinds[name]]) for name, tensor in tensors.items()})
    vocabulary = vocabulary_of(input_shape)
    return make(input_shape, vocabulary).to(torch.float32 if vocabulary is None else torch.int64)
