"""Convolutional network: a plain stack of `depth` convolutions with `width` channels."""

from __future__ import annotations

from torch import nn

from noisescale.families.layers import Layers, check_images
from noisescale.families.normalization import NO_NORMALIZATION, Normalization

# Images are not shrunk any further once their shorter side is this short: a 3×3 kernel would see mostly padding.
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
    """`depth` times (3×3 convolution, normalization, activation), mean over pixels, linear read-out.

    The second, fourth, … convolution has stride 2 while the image's shorter side is above 4: 28×28 becomes 14×14, 7×7,
    4×4; 32×32 becomes 16×16, 8×8, 4×4; 8×8 becomes 4×4.

    Arguments:
        width: channels of every convolution. input_shape: (C, H, W). num_classes: outputs.
        depth: number of convolutions. activation: "relu" or "tanh".
        normalization: of the pre-activations. scale_invariant: as in `ModelOptions`.
    Raises:
        BadInput: inputs that are no images, or options that cannot be built.
    """
    check_images("convnet", input_shape, 2)
    layers = Layers(activation, normalization, scale_invariant, images=True)
    channels, side = input_shape[0], min(input_shape[1:])
    modules: list[nn.Module] = []
    for position in range(depth):
        stride = 2 if position % 2 and side > SMALLEST_MAP else 1
        modules += [layers.convolution(channels, width, stride=stride), *layers.after(width)]
        channels, side = width, -(-side // stride)
    return nn.Sequential(*modules, *layers.pooled_read_out(width, num_classes))
