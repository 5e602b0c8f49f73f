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
