"""The table of activations."""

from __future__ import annotations

from torch import nn

from noisescale.errors import unknown_name

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def make_activation(name: str) -> nn.Module:
    """Build the module of an activation.

    Args:
        name: Name in `ACTIVATIONS`.

    Raises:
        BadInput: The name is unknown.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("model.activation", ACTIVATIONS, name)
    return ACTIVATIONS[name]()
