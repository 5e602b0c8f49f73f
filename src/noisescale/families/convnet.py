"""Convolutional network: a plain stack of `depth` convolutions with `width` channels."""

from __future__ import annotations

from torch import nn

from noisescale.families.layers import Layers
from noisescale.families.normalization import NO_NORMALIZATION, Normalization
from noisescale.families.spatial import check_positions

# Maps are not shrunk any further once their shorter side is this short: a kernel of 3 would see mostly padding.
SMALLEST_MAP = 4


def convnet(
    width: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    activation: str,
    normalization: Normalization = NO_NORMALIZATION,
    scale_invariant: bool = False,
) -> nn.Module:
    """Build `depth` layers (convolution of size 3, normalization, activation), then mean over positions and read-out.

    The second, fourth, … convolution has stride 2 while the shorter side is above 4: 28×28 becomes 14×14, 7×7, 4×4; 40
    positions become 20, 10, 5, 3.

    Args:
        width: Channels of every convolution.
        input_shape: Shape of one example, (C, L) or (C, H, W).
        num_classes: Number of outputs.
        depth: Number of convolutions.
        activation: A name in `ACTIVATIONS`.
        normalization: Normalization of the pre-activations.
        scale_invariant: Whether the loss is invariant to the scale of each weight.

    Returns:
        The network, an `nn.Sequential`.

    Raises:
        BadInput: Inputs without positions, or options that cannot be built.
    """
    layers = Layers(activation, normalization, scale_invariant, spatial=check_positions("convnet", input_shape, 2))
    channels, side = input_shape[0], min(input_shape[1:])
    modules: list[nn.Module] = []
    for position in range(depth):
        stride = 2 if position % 2 and side > SMALLEST_MAP else 1
        modules += [layers.convolution(channels, width, stride=stride), *layers.after(width)]
        channels, side = width, -(-side // stride)
    return nn.Sequential(*modules, *layers.pooled_read_out(width, num_classes))
