"""The layers for each kind of activations, by their positions: none, one axis, two axes, or a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from noisescale.errors import BadInput
from noisescale.families.sequences import MeanOverPositions

# The number of spatial axes, which follow the channels, or "sequence" for positions that precede the channels.
Spatial = int | Literal["sequence"]


@dataclass(frozen=True, slots=True)
class SpatialLayers:
    """The layers for one kind of activations.

    Args:
        inputs: Kind and shape of an example, for messages.
        convolution: The class of the convolution. None if there is no convolution for this kind.
        batch_norm: The class of batch normalization.
        mean: A function that returns a layer for the mean over positions. None for vectors, which have no positions.
        channels_last: Whether the channels follow the positions.
    """

    inputs: str
    convolution: Callable[..., nn.Module] | None
    batch_norm: Callable[..., nn.Module]
    mean: Callable[[], nn.Module] | None
    channels_last: bool = False


# A new kind of activations is one more row.
SPATIAL: dict[Spatial, SpatialLayers] = {
    0: SpatialLayers("vectors [D]", None, nn.BatchNorm1d, None),
    1: SpatialLayers("signals [C, L]", nn.Conv1d, nn.BatchNorm1d, partial(nn.AdaptiveAvgPool1d, 1)),
    2: SpatialLayers("images [C, H, W]", nn.Conv2d, nn.BatchNorm2d, partial(nn.AdaptiveAvgPool2d, 1)),
    "sequence": SpatialLayers("sequences [L, C]", None, nn.BatchNorm1d, MeanOverPositions, channels_last=True),
}


def spatial_axes(input_shape: Sequence[int]) -> int:
    """Return the number of spatial axes of one example: all axes but the channels."""
    return len(input_shape) - 1


def check_positions(family: str, input_shape: Sequence[int], smallest: int) -> int:
    """Refuse inputs on which convolutions cannot work.

    Args:
        family: Name of the family, for messages.
        input_shape: Shape of one example, (C, L) or (C, H, W).
        smallest: Smallest number of positions along every axis.

    Returns:
        The number of spatial axes.

    Raises:
        BadInput: The inputs are vectors, are of an unknown kind, or are too small.
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
