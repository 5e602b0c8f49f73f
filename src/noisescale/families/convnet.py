"""Convolutional network: a plain stack of `depth` convolutions with `width` channels."""

from __future__ import annotations

from torch import nn

from noisescale.families.layers import Layers
from noisescale.families.normalization import NO_NORMALIZATION, Normalization
from noisescale.families.spatial import check_positions

# Feature maps whose shorter side is at most this long are not shrunk further, because a kernel of size 3 would see
# mostly padding.
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
    read_out: str | None = None,
) -> nn.Module:
    """Build `depth` times (convolution of size 3, normalization, activation), mean over positions, linear read-out.

    The second, fourth, … convolution has stride 2 as long as the shorter side is above 4. Images of 28×28 become 14×14,
    7×7 and 4×4, and 40 positions become 20, 10, 5 and 3.

    Args:
        width: Number of channels of every convolution.
        input_shape: Shape of one example, (C, L) or (C, H, W).
        num_classes: Number of outputs.
        depth: Number of convolutions.
        activation: A name in `ACTIVATIONS`.
        normalization: Normalization of the pre-activations.
        scale_invariant: Whether the loss is invariant to the scale of each weight.
        read_out: "flatten" for a read-out of all positions; None or "mean" for their mean.

    Returns:
        The network, an `nn.Sequential`.

    Raises:
        BadInput: Inputs have no positions or are too small, or a network with these options cannot be built.
    """
    layers = Layers(activation, normalization, scale_invariant, spatial=check_positions("convnet", input_shape, 2))
    channels, sides = input_shape[0], input_shape[1:]
    modules: list[nn.Module] = []
    for layer in range(depth):
        stride = 2 if layer % 2 and min(sides) > SMALLEST_MAP else 1
        modules += [layers.convolution(channels, width, stride=stride), *layers.after(width)]
        channels, sides = width, tuple(-(-side // stride) for side in sides)
    return nn.Sequential(*modules, *layers.read_out_of_positions(width, sides, num_classes, read_out))
