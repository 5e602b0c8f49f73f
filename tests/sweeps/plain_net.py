"""A plain network, of which tests of a user's modules change one thing at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noisescale.seeding import seeded

INPUTS = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Computes a plain network. Subclasses change how."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.begin()

    def begin(self) -> None:
        pass

    def change(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.change(self.first(x).tanh()))
        return out


def from_seed(kind: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    def build(seed: int) -> nn.Module:
        with seeded(seed):
            return kind()

    return build
