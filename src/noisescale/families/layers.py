"""What the built-in families are made of: weight layers, what follows them, and the read-out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families.activations import make_activation
from noisescale.families.normalization import Normalization


class FixedReadOut(nn.Module):
    """A linear read-out that is never trained: a buffer, equal in all runs of a width.

    z = Wx with W ~ N(0, 1/width), drawn from a stream of its own: inputs of unit size give outputs of unit size.

    Arguments:
        width: inputs. num_classes: outputs.
    Source:
        Hoffer, Hubara, Soudry 2018 ("Fix your classifier"); Li, Lyu, Arora 2020 for its use in scale-invariant nets.
    """

    weight: Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        draw = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.register_buffer("weight", (draw / math.sqrt(width)).to(torch.get_default_dtype()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [B, K] of inputs [B, width]."""
        return nn.functional.linear(inputs, self.weight)


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of one network.

    A weight layer has a bias where no normalization is used. In a scale-invariant network every weight layer must be
    followed by `normalization(...)`, whose affine parameters are off, and the read-out is fixed.

    Arguments:
        images: whether activations are [B, C, H, W].
    Raises:
        BadInput: an unknown activation, or a scale-invariant network without normalization.
    """

    activation_name: str
    normalizes: Normalization
    scale_invariant: bool
    images: bool

    def __post_init__(self) -> None:
        make_activation(self.activation_name)
        if self.scale_invariant and not self.normalizes:
            required = "a normalization, which model.scale_invariant = true wants after every weight layer"
            raise BadInput("model.normalization", required, repr(self.normalizes.kind))

    def linear(self, fan_in: int, units: int) -> nn.Linear:
        """A fully connected layer."""
        return nn.Linear(fan_in, units, bias=not self.normalizes)

    def convolution(self, channels_in: int, channels: int, *, size: int = 3, stride: int = 1) -> nn.Conv2d:
        """A convolution whose padding keeps the image's size, which its stride then divides."""
        return nn.Conv2d(channels_in, channels, size, stride, padding=size // 2, bias=not self.normalizes)

    def normalization(self, channels: int) -> nn.Module:
        """The normalization; an `nn.Identity` where there is none."""
        return self.normalizes.module(channels, images=self.images, affine=not self.scale_invariant)

    def activation(self) -> nn.Module:
        """The activation."""
        return make_activation(self.activation_name)

    def after(self, channels: int) -> list[nn.Module]:
        """What follows a weight layer: the normalization, where there is one, and the activation."""
        return [*([self.normalization(channels)] if self.normalizes else []), self.activation()]

    def read_out(self, width: int, num_classes: int) -> nn.Module:
        """The last layer: trained, or fixed in a scale-invariant network."""
        return FixedReadOut(width, num_classes) if self.scale_invariant else nn.Linear(width, num_classes)

    def pooled_read_out(self, channels: int, num_classes: int) -> list[nn.Module]:
        """Mean over pixels, then the read-out."""
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), self.read_out(channels, num_classes)]


def check_images(family: str, input_shape: tuple[int, ...], smallest: int) -> None:
    """Refuse inputs on which convolutions cannot work.

    Arguments:
        smallest: pixels that the image's shorter side must have.
    Raises:
        BadInput: vectors, or images that are too small.
    """
    if len(input_shape) != 3:
        required = f"a family for vectors ('mlp'), or images [C, H, W], which {family!r} wants"
        raise BadInput("model.family", required, f"{family!r} for inputs of shape {list(input_shape)}")
    if min(input_shape[1:]) < smallest:
        required = f"images of at least {smallest} by {smallest} pixels for this {family!r}"
        raise BadInput("model.family", required, f"inputs of shape {list(input_shape)}")
