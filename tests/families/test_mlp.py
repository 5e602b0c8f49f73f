from __future__ import annotations

import pytest
import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import FAMILIES, ModelOptions, Normalization, family_factory
from noisescale.families.mlp import mlp


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("shape", [(7,), (2, 3, 4)])
def test_shapes_and_number_of_layers(depth: int, shape: tuple[int, ...]) -> None:
    module = mlp(16, shape, 5, depth=depth, activation="tanh")
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    inputs = torch.randn(2, *shape)
    assert [layer.out_features for layer in layers] == [16] * depth + [5]
    assert layers[0].in_features == inputs[0].numel()
    assert module(inputs).shape == (2, 5)
    assert sum(isinstance(layer, nn.Tanh) for layer in module.modules()) == depth


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(BadInput, match=r"model\.activation.*relu, tanh.*'unknown'"):
        mlp(16, (7,), 5, depth=1, activation="unknown")


def test_a_family_is_built_by_name_and_a_misspelled_name_is_refused() -> None:
    module = family_factory(ModelOptions("mlp", depth=2))(8, (3,), 2)
    assert sum(isinstance(layer, nn.Linear) for layer in module.modules()) == 3
    with pytest.raises(BadInput, match=r"model\.family.*did you mean 'mlp'"):
        family_factory(ModelOptions("mpl"))
    assert set(FAMILIES) >= {"mlp"}


def test_normalization_is_between_linear_layer_and_activation() -> None:
    module = mlp(6, (7,), 5, depth=2, activation="relu", normalization=Normalization("batch"))
    kinds = [type(layer) for layer in module.children()]
    assert kinds == [nn.Flatten, *[nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2, nn.Linear]


def test_without_normalization_there_are_only_linear_layers_and_activations() -> None:
    """The explicit kernel recognizes exactly these networks."""
    kinds = [type(layer) for layer in mlp(6, (7,), 5, depth=2, activation="relu").children()]
    assert kinds == [nn.Flatten, *[nn.Linear, nn.ReLU] * 2, nn.Linear]
