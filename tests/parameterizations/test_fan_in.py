from __future__ import annotations

import pytest
from torch import nn

from noisescale.errors import BadInput
from noisescale.parameterizations import describe_parameters


def test_frozen_parameters_are_not_described() -> None:
    module, reference = (nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2)) for width in (4, 8))
    for model in (module, reference):
        model[0].requires_grad_(False)
    assert [parameter.name for parameter in describe_parameters(module, reference)] == ["1.weight", "1.bias"]


def test_modules_without_a_trained_parameter_or_with_other_ones_are_refused() -> None:
    module, reference = (nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2)) for width in (4, 8))
    module[0].weight.requires_grad_(False)
    with pytest.raises(BadInput, match="the same parameters"):
        describe_parameters(module, reference)
    for model in (module, reference):
        model.requires_grad_(False)
    with pytest.raises(BadInput, match="a module with a trained parameter"):
        describe_parameters(module, reference)
