"""Builds a module from a seed."""

from __future__ import annotations

from torch import nn

from noisescale.families.custom import Factory
from noisescale.input_shapes import InputShape
from noisescale.seeding import seeded


def build(factory: Factory, width: int, input_shape: InputShape, num_classes: int, seed: int) -> nn.Module:
    """Build a module. What it draws from torch's, NumPy's and Python's generators follows from the seed.

    Args:
        factory: The factory.
        width: Width of the model.
        input_shape: Shape of one example.
        num_classes: Number of outputs.
        seed: The seed.
    """
    with seeded(seed):
        return factory(width, input_shape, num_classes)
