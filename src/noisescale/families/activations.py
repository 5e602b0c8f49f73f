"""The activations that built-in families offer, as one table."""

from __future__ import annotations

from torch import nn

from noisescale.errors import unknown_name

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def make_activation(name: str) -> nn.Module:
    """A module of the named activation.

    Raises:
        BadInput: A name that is not in the table.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("model.activation", ACTIVATIONS, name)
    return ACTIVATIONS[name]()
