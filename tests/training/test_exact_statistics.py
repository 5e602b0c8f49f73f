from __future__ import annotations

import copy

import torch
from torch import nn

from noisescale.training.exact_statistics import exact_statistics


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2),
    ).double()  # fmt: skip


def test_an_evaluation_pass_then_equals_a_training_pass_over_everything() -> None:
    module, inputs = network(), torch.randn(50, 2, 6, 6, dtype=torch.float64) + 3
    whole = copy.deepcopy(module).train()(inputs)
    for chunk in (7, 50, 64):
        own = copy.deepcopy(module)
        exact_statistics(own, inputs, chunk)
        torch.testing.assert_close(own(inputs), whole, rtol=1e-10, atol=1e-10)


def test_a_module_without_batch_normalization_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    before = copy.deepcopy(module.state_dict())
    exact_statistics(module, torch.randn(9, 3), 4)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
