"""Residual network with pre-activation (He, Zhang, Ren, Sun 2016, "Identity mappings in deep residual networks")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families.layers import Layers
from noisescale.families.normalization import NO_NORMALIZATION, Normalization
from noisescale.families.spatial import check_positions


class ResidualBlock(nn.Module):
    """A residual block y = S(x) + α F(x), with F = conv ∘ φ ∘ norm ∘ conv ∘ φ ∘ norm.

    The shortcut S(x) is x itself, or a projection: a convolution of size 1 applied to φ(norm(x)). With normalization, α
    is 1. Without normalization, α is a learnable number that starts at 0 (SkipInit), so that all blocks are initially
    their shortcuts. In a scale-invariant network, F and the projection each end with a normalization, so that every
    weight is normalized before the sum.

    Args:
        channels_in: Number of channels of the input.
        channels: Number of channels of the output.
        stride: Stride of the first convolution and of the projection.
        projects: Whether the shortcut is a projection.
        layers: The layers of the network.

    Source:
        He, Zhang, Ren, Sun 2016, figure 4e; De, Smith 2020 (arXiv 2002.10444), section 4, for SkipInit.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, projects: bool, layers: Layers) -> None:
        super().__init__()

        def last_norm() -> nn.Module:
            return layers.normalization(channels) if layers.scale_invariant else nn.Identity()

        self.activation = layers.activation()
        self.norm1 = layers.normalization(channels_in)
        self.projection = layers.convolution(channels_in, channels, size=1, stride=stride) if projects else None
        self.projection_norm = last_norm() if projects else None
        self.conv1 = layers.convolution(channels_in, channels, stride=stride)
        self.norm2 = layers.normalization(channels)
        self.conv2 = layers.convolution(channels, channels)
        self.branch_norm = last_norm()
        # The number has an axis, because the code for query rows and for masks indexes the first axis of a tensor.
        self.branch_scale = None if layers.normalizes else nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs [B, channels, positions/stride] of inputs [B, channels_in, positions]."""
        active = self.activation(self.norm1(inputs))
        branch = self.branch_norm(self.conv2(self.activation(self.norm2(self.conv1(active)))))
        if self.branch_scale is not None:
            branch = self.branch_scale * branch
        if self.projection is None or self.projection_norm is None:
            return inputs + branch  # type: ignore[no-any-return]
        return self.projection_norm(self.projection(active)) + branch  # type: ignore[no-any-return]


def resnet(
    width: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    blocks: tuple[int, ...],
    stem: int | None,
    activation: str,
    normalization: Normalization = NO_NORMALIZATION,
    scale_invariant: bool = False,
    read_out: str | None = None,
) -> nn.Module:
    """Build a residual network: stem of size 3, residual blocks, normalization, activation, mean, linear read-out.

    Stage s = 0, 1, … has blocks[s] blocks of 2^s·width channels. The stages from s = 1 on begin with stride 2. The
    shortcut of a block is a projection if the block changes the shape. If `stem` is given, the first block has a
    projection at every width, so that a network has the same parameters, by name, at every width. Without
    normalization, convolutions have biases, and each block has a learnable scale (SkipInit, see `ResidualBlock`).

    Blocks [5, 5, 5] at width 16 give PreResNet-32. Blocks [2, 2, 2] at width 64 with stem 16 give WRN-16-4.

    Args:
        width: Number of channels of the first stage.
        input_shape: Shape of one example, (C, L) or (C, H, W).
        num_classes: Number of outputs.
        blocks: Number of residual blocks of each stage.
        stem: Number of channels of the stem. None for the width.
        activation: A name in `ACTIVATIONS`.
        normalization: The normalization before each activation.
        scale_invariant: Whether the loss is invariant to the scale of each weight.
        read_out: "flatten" for a read-out of all positions; None or "mean" for their mean.

    Returns:
        The network, an `nn.Sequential`.

    Raises:
        BadInput: Inputs have no positions or are too small for the number of stages, or a network with these options
            cannot be built.

    Source:
        He, Zhang, Ren, Sun 2016; Zagoruyko, Komodakis 2016, for wide residual networks.
    """
    if not blocks or min(blocks) < 1:
        raise BadInput("model.blocks", "a non-empty list of numbers above 0", list(blocks))
    spatial = check_positions("resnet", input_shape, 2 ** len(blocks))
    layers = Layers(activation, normalization, scale_invariant, spatial)
    channels_in, sides = (width if stem is None else stem), input_shape[1:]
    modules: list[nn.Module] = [layers.convolution(input_shape[0], channels_in)]
    if scale_invariant:
        modules.append(layers.normalization(channels_in))
    for stage, count in enumerate(blocks):
        channels = 2**stage * width
        for block in range(count):
            is_first = block == 0
            stride = 2 if is_first and stage else 1
            sides = tuple(-(-side // stride) for side in sides)
            projects = is_first and (stage > 0 or stem is not None)
            modules.append(ResidualBlock(channels_in, channels, stride, projects, layers))
            channels_in = channels
    read = layers.read_out_of_positions(channels_in, sides, num_classes, read_out)
    return nn.Sequential(*modules, *layers.after(channels_in), *read)
