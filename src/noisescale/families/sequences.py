"""Layers for sequences [B, L, C], in which the channels of a position come last, as in a transformer."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsFirst(nn.Module):
    """Applies a layer for activations [B, C, L] to activations [B, L, C].

    Args:
        layer: The layer. It must keep the shape of its inputs.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's outputs, shape [B, L, C]."""
        outputs: Tensor = self.layer(inputs.transpose(1, 2)).transpose(1, 2)
        return outputs


class MeanOverPositions(nn.Module):
    """Averages activations [B, L, C] over their positions."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the means, shape [B, C]."""
        return inputs.mean(1)
