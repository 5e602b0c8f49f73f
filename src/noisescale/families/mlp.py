"""Multi-layer perceptron: `depth` hidden layers of `width` units."""

from __future__ import annotations

import math

from torch import nn

from noisescale.families.layers import Layers
from noisescale.families.normalization import NO_NORMALIZATION, Normalization


def mlp(
    width: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    activation: str,
    normalization: Normalization = NO_NORMALIZATION,
    scale_invariant: bool = False,
) -> nn.Module:
    """Build an MLP on flattened inputs: `depth` times (Linear, normalization, activation), then a linear read-out.

    Args:
        width: Number of units of every hidden layer.
        input_shape: Shape of one example. Inputs of any shape are flattened.
        num_classes: Number of outputs.
        depth: Number of hidden layers.
        activation: A name in `ACTIVATIONS`.
        normalization: Normalization of the pre-activations.
        scale_invariant: Whether the loss is invariant to the scale of each weight.

    Returns:
        The network, an `nn.Sequential`.

    Raises:
        BadInput: The activation is unknown, or the width does not allow the normalization.
    """
    layers = Layers(activation, normalization, scale_invariant, spatial=0)
    fan_in = math.prod(input_shape)
    modules: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        modules += [layers.linear(fan_in, width), *layers.after(width)]
        fan_in = width
    return nn.Sequential(*modules, layers.read_out(fan_in, num_classes))
