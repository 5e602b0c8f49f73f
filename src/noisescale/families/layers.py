"""The parts of the built-in families: weight layers, normalizations, activations and the read-out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families.activations import make_activation
from noisescale.families.normalization import Normalization
from noisescale.families.spatial import SPATIAL, Spatial


class FixedReadOut(nn.Module):
    """A linear read-out z = Wx that is never trained. W is a buffer that is the same in all runs of a width.

    The entries of W are drawn from N(0, 1/width) by a generator that does not depend on the seed of a run. Inputs of
    unit size therefore give outputs of unit size.

    Args:
        width: Number of inputs.
        num_classes: Number of outputs.

    Source:
        Hoffer, Hubara, Soudry 2018 ("Fix your classifier"). Li, Lyu, Arora 2020, for the use in scale-invariant
        networks.
    """

    weight: Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        draw = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.register_buffer("weight", (draw / math.sqrt(width)).to(torch.get_default_dtype()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs [B, K] of inputs [B, width]."""
        return nn.functional.linear(inputs, self.weight)


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of one network.

    A weight layer has a bias if there is no normalization. In a scale-invariant network, every weight layer is followed
    by a normalization without gain and shift, and the read-out is fixed.

    Args:
        activation_name: A name in `ACTIVATIONS`.
        normalizes: The normalization that follows weight layers.
        scale_invariant: Whether the network is scale-invariant.
        spatial: Kind of the activations, a key of `SPATIAL`: 0 for [B, C], 1 for [B, C, L], 2 for [B, C, H, W] and
            "sequence" for [B, L, C].

    Raises:
        BadInput: The activation is unknown, or a scale-invariant network has no normalization.
    """

    activation_name: str
    normalizes: Normalization
    scale_invariant: bool
    spatial: Spatial

    def __post_init__(self) -> None:
        make_activation(self.activation_name)
        if self.scale_invariant and not self.normalizes:
            required = "a normalization, which model.scale_invariant = true needs after every weight layer"
            raise BadInput("model.normalization", required, repr(self.normalizes.kind))

    def linear(self, fan_in: int, units: int) -> nn.Linear:
        """Return a fully connected layer."""
        return nn.Linear(fan_in, units, bias=not self.normalizes)

    def convolution(self, channels_in: int, channels: int, *, size: int = 3, stride: int = 1) -> nn.Module:
        """Return a convolution. Its padding keeps the number of positions, which only the stride reduces."""
        layer = SPATIAL[self.spatial].convolution
        assert layer is not None  # `check_positions` refuses vectors
        return layer(channels_in, channels, size, stride, padding=size // 2, bias=not self.normalizes)

    def normalization(self, channels: int) -> nn.Module:
        """Return the normalization, or an `nn.Identity` if there is none."""
        return self.normalizes.module(channels, spatial=self.spatial, affine=not self.scale_invariant)

    def activation(self) -> nn.Module:
        """Return the activation."""
        return make_activation(self.activation_name)

    def after(self, channels: int) -> list[nn.Module]:
        """Return the modules that follow a weight layer: the normalization, if there is one, and the activation."""
        return [*([self.normalization(channels)] if self.normalizes else []), self.activation()]

    def read_out(self, width: int, num_classes: int) -> nn.Module:
        """Return the last layer. It is trained, except in a scale-invariant network."""
        return FixedReadOut(width, num_classes) if self.scale_invariant else nn.Linear(width, num_classes)

    def read_out_of_positions(
        self, channels: int, positions: Sequence[int], num_classes: int, kind: str | None
    ) -> list[nn.Module]:
        """Return the read-out of the mean over positions or, if the kind is "flatten", of all positions.

        Args:
            channels: Number of channels.
            positions: Number of positions along each axis.
            num_classes: Number of outputs.
            kind: "mean" or "flatten". None for "mean".
        """
        if kind == "flatten":
            return [nn.Flatten(), self.read_out(channels * math.prod(positions), num_classes)]
        mean = SPATIAL[self.spatial].mean
        assert mean is not None  # `check_positions` refuses vectors
        return [mean(), nn.Flatten(), self.read_out(channels, num_classes)]
