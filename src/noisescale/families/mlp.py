"""Multi-layer perceptron: `depth` hidden layers of `width` units."""

from __future__ import annotations

import math

from torch import nn

from noisescale.errors import BadInput

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(width: int, input_shape: tuple[int, ...], num_classes: int, *, depth: int, activation: str) -> nn.Module:
    """An MLP on flattened inputs: `depth` times (Linear, activation), then a linear read-out.

    Arguments:
        width: units of every hidden layer. input_shape: shape of one example. num_classes: outputs.
        depth: number of hidden layers. activation: "relu" or "tanh".
    Raises:
        BadInput: an activation that is not in the table.
    """
    if activation not in ACTIVATIONS:
        raise BadInput("model.activation", f"one of {', '.join(ACTIVATIONS)}", repr(activation))
    fan_in = math.prod(input_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(fan_in, width), ACTIVATIONS[activation]()]
        fan_in = width
    layers.append(nn.Linear(fan_in, num_classes))
    return nn.Sequential(*layers)
