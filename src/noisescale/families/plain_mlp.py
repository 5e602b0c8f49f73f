"""Recognizes plain MLPs. For them the trainer and the instruments compute derivatives by explicit formulas."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

_ACTIVATIONS = {nn.ReLU, nn.Tanh}


@dataclass(frozen=True, slots=True)
class MLPLayers:
    """The layers of a plain MLP.

    Args:
        names: Names of the linear layers, from first to last.
        activation: Activation between the linear layers.
    """

    names: tuple[str, ...]
    activation: type[nn.Module]


def mlp_layers(module: nn.Module) -> MLPLayers | None:
    """Return the layers of a plain MLP, or None for any other module.

    A plain MLP consists of `Flatten` and trained linear layers with biases, with the same activation between all of
    them.

    Args:
        module: The module.
    """
    # Types must match exactly, because a subclass may compute anything in its forward pass.
    if type(module) is not nn.Sequential or len(module) < 2 or type(module[0]) is not nn.Flatten:
        return None
    flatten = module[0]
    linear, activations = list(module)[1::2], list(module)[2::2]
    names = tuple(str(position) for position in range(1, len(module), 2))
    plain = all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
    kinds = {type(layer) for layer in activations}
    # The names differ if a layer occurs twice.
    plain = plain and [name for name, _ in module.named_parameters()] == [
        f"{name}.{kind}" for name in names for kind in ("weight", "bias")
    ]
    plain = plain and all(parameter.requires_grad for parameter in module.parameters())
    plain = plain and (flatten.start_dim, flatten.end_dim) == (1, -1)
    if not plain or len(linear) != len(activations) + 1 or len(kinds) != 1 or not kinds <= _ACTIVATIONS:
        return None
    return MLPLayers(names, kinds.pop())
