from __future__ import annotations

import pytest
import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families.mlp import mlp
from noisescale.training import parameterize


def network(width: int) -> nn.Module:
    return mlp(width, (6,), 3, depth=1, activation="relu")


def test_every_parameter_is_in_one_group_with_its_rate_and_decay() -> None:
    model = network(12)
    groups = parameterize(model, network(24), "ntk", 0.5, weight_decay=0.01, init_scale=2.0)
    by_tensor = {id(tensor): (group["lr"], group["weight_decay"]) for group in groups for tensor in group["params"]}
    assert len(by_tensor) == sum(len(group["params"]) for group in groups) == 4
    expected = {"1.weight": 2 / 6, "3.weight": 2 / 12, "1.bias": 1.0, "3.bias": 1.0}
    for name, tensor in model.named_parameters():
        rate, decay = by_tensor[id(tensor)]
        assert rate == pytest.approx(0.5 * expected[name])
        assert decay == pytest.approx(0.01 / expected[name])


def test_momentum_has_the_optimizers_default_unless_it_is_given() -> None:
    optimizer = torch.optim.SGD(parameterize(network(12), network(24), "ntk", 0.5), momentum=0.9)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    given = torch.optim.SGD(parameterize(network(12), network(24), "ntk", 0.5, momentum=0.3), momentum=0.9)
    assert {group["momentum"] for group in given.param_groups} == {0.3}


def test_the_seed_fixes_the_weights() -> None:
    models = [network(12) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        parameterize(model, network(24), "standard", 0.1, seed=seed)
    first, again, other = (model.get_parameter("3.weight") for model in models)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_own_does_not_change_the_model() -> None:
    model = network(12)
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    groups = parameterize(model, network(24), "own", 0.1)
    assert len(groups) == 1 and groups[0]["lr"] == 0.1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_not_positive_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match="learning_rate"):
        parameterize(network(12), network(24), "ntk", rate)
