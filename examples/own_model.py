"""Your own model and your own data, as `examples/own_model.toml` names them: no line of either knows the package."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn


class GatedMLP(nn.Module):
    """One hidden layer with a gate: a module for which no explicit kernel exists."""

    def __init__(self, fan_in: int, width: int, outputs: int) -> None:
        super().__init__()
        self.value = nn.Linear(fan_in, width)
        self.gate = nn.Linear(fan_in, width)
        self.read_out = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1)
        return self.read_out(self.value(flat) * self.gate(flat).sigmoid())


def model(width: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The factory: any width, any input, any number of outputs."""
    return GatedMLP(math.prod(input_shape), width, num_classes)


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two interleaved spirals in the plane with noise: x_train, y_train, x_test, y_test."""
    generator = np.random.default_rng(0)

    def spirals(examples: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.integers(0, 2, examples)
        angle = 3 * np.pi * np.sqrt(generator.random(examples)) + 0.5
        turn = angle + np.pi * labels
        points = angle[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
        return points + generator.normal(0, 0.5, points.shape), labels

    return (*spirals(1000), *spirals(4000))
