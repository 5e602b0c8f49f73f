"""Models without a width, as users write them."""

from __future__ import annotations

import torch
from torch import nn


def of_data(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(input_shape[-1] * input_shape[-2], 6), nn.Tanh(), nn.Linear(6, num_classes)
    )


def of_nothing() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))


with torch.random.fork_rng(devices=[]):
    torch.manual_seed(5)
    instance = of_nothing()


def with_width(width: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return of_nothing()


class Backbone(nn.Module):
    """A frozen backbone with batch normalization in evaluation mode, and a new head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Tanh()).requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 10))

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.backbone(x.flatten(1)))
        return outputs
