from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from noisescale.families.convnet import convnet
from noisescale.families.mlp import mlp
from noisescale.sweeps import Grid
from noisescale.sweeps.cost import ModelSize, measure_size, memory


def test_a_convolution_uses_its_weights_at_every_pixel() -> None:
    module = convnet(4, (2, 8, 6), 3, depth=2, activation="relu")
    shape = measure_size(module, torch.randn(2, 2, 8, 6), 100)
    assert shape.parameters == sum(tensor.numel() for tensor in module.parameters())
    assert shape.work == 9 * 2 * 4 * 48 + 9 * 4 * 4 * 12 + 4 * 3
    # Input, two convolutions and their activations, the mean over positions (once as a map, once flat), outputs.
    assert shape.activations == 2 * 48 + 2 * 4 * 48 + 2 * 4 * 12 + 2 * 4 + 3


def test_a_linear_layer_uses_each_weight_once() -> None:
    module = mlp(5, (7,), 3, depth=1, activation="relu")
    shape = measure_size(module, torch.randn(2, 7), 100)
    assert shape.operations == 7 * 5 + 5 * 3 < shape.work == shape.parameters
    assert not any(part._forward_hooks for part in module.modules())


def test_a_module_that_hides_its_operations_counts_its_parameters() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(7, 3))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs @ self.weight

    shape = measure_size(Hidden(), torch.randn(2, 7), 100)
    assert (shape.work, shape.activations) == (21, 7 + 3)


def test_the_memory_of_a_pack_is_that_of_the_part_of_a_batch(make_grid: Callable[..., Grid]) -> None:
    size = ModelSize(parameters=10, activations=100, examples=1)
    whole, parts = (
        memory(make_grid(grid__batch_size=[32], training__microbatch=b).runs()[:1], size) for b in (None, 4)
    )
    assert (whole, parts) == (4 * (40 + 3 * 32 * 100), 4 * (40 + 3 * 4 * 100))
