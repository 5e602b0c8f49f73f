"""The layers for inputs with no, one or two spatial axes, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from noisescale.errors import BadInput


@dataclass(frozen=True, slots=True)
class SpatialLayers:
    """The layers for one number of spatial axes.

    Args:
        inputs: Kind and shape of an example, for messages.
        convolution: The convolution; None for vectors, which have no positions.
        batch_norm: Batch normalization.
        mean: The mean over positions, as an adaptive pooling layer; None for vectors.
    """

    inputs: str
    convolution: type[nn.Conv1d | nn.Conv2d] | None
    batch_norm: type[nn.BatchNorm1d | nn.BatchNorm2d]
    mean: type[nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d] | None


# The key is the number of spatial axes. A new kind of input is one more row.
SPATIAL: dict[int, SpatialLayers] = {
    0: SpatialLayers("vectors [D]", None, nn.BatchNorm1d, None),
    1: SpatialLayers("sequences of channels [C, L]", nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d),
    2: SpatialLayers("images [C, H, W]", nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d),
}


def spatial_axes(input_shape: Sequence[int]) -> int:
    """Return the number of spatial axes of one example: all axes but the channels."""
    return len(input_shape) - 1


def check_positions(family: str, input_shape: Sequence[int], smallest: int) -> int:
    """Refuse inputs on which convolutions cannot work.

    Args:
        family: The family, for the message.
        input_shape: Shape of one example, (C, L) or (C, H, W).
        smallest: Positions that the shortest side must have.

    Returns:
        The number of spatial axes.

    Raises:
        BadInput: Vectors, inputs of an unknown kind, or inputs that are too small.
    """
    axes = spatial_axes(input_shape)
    if axes not in SPATIAL or SPATIAL[axes].convolution is None:
        kinds = " or ".join(layers.inputs for layers in SPATIAL.values() if layers.convolution is not None)
        required = f"{kinds} for family {family!r}, or family 'mlp', which also takes vectors"
        raise BadInput("model.family", required, f"{family!r} for inputs of shape {list(input_shape)}")
    if min(input_shape[1:]) < smallest:
        required = f"at least {smallest} positions along every axis for this {family!r}"
        raise BadInput("model.family", required, f"inputs of shape {list(input_shape)}")
    return axes
