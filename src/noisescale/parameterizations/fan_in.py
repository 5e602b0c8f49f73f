"""What each parameter of a module is: a weight with a fan-in, a bias, or something else; and which fan-ins grow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from noisescale.errors import BadInput

Role = Literal["weight", "bias", "other"]

# Modules whose `weight` maps fan_in = numel / shape[0] inputs to each output.
_LINEAR_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named parameter of a module.

    Arguments:
        fan_in: d, inputs per output unit (for a convolution kernel_size² · channels); of the layer, for a bias.
        grows: whether d differs between the module and its reference at another width.
        has_constant_start: for "other": whether the module starts it at one value (a normalization layer's gain).
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    fan_in: int | None
    grows: bool
    has_constant_start: bool


def describe_parameters(module: nn.Module, reference: nn.Module) -> tuple[Parameter, ...]:
    """The parameters of `module`, with their roles and fan-ins, in the order of `named_parameters()`.

    Arguments:
        module: the model at the width to be trained.
        reference: the same model at another width, from which growth is seen.
    Raises:
        BadInput: the reference has other parameters than the module, or a parameter does not train.
    """
    fans = _fan_ins(module)
    reference_fans = _fan_ins(reference)
    names = [name for name, _ in module.named_parameters()]
    if names != [name for name, _ in reference.named_parameters()]:
        raise BadInput("model.family", "a factory that returns the same parameters, by name, at every width", names)
    described = []
    for name, tensor in module.named_parameters():
        if not tensor.requires_grad:
            required = f"parameters that all train; register {name!r} as a buffer where it stays as it is"
            raise BadInput("model.family", required, "requires_grad = False")
        owner_fan, role = fans.get(name, (None, "other"))
        grows = role == "weight" and owner_fan != reference_fans[name][0]
        constant = bool((tensor.detach() == tensor.detach().flatten()[0]).all()) if tensor.numel() else True
        described.append(Parameter(name, tuple(tensor.shape), role, owner_fan, grows, constant))
    return tuple(described)


def read_out(parameters: tuple[Parameter, ...]) -> Parameter | None:
    """The reference layer of the normalized noise scale: the last weight whose fan-in grows with width."""
    growing = [parameter for parameter in parameters if parameter.grows]
    return growing[-1] if growing else None


def _fan_ins(module: nn.Module) -> dict[str, tuple[int | None, Role]]:
    fans: dict[str, tuple[int | None, Role]] = {}
    for prefix, owner in module.named_modules():
        if not isinstance(owner, _LINEAR_MAPS):
            continue
        dot = f"{prefix}." if prefix else ""
        fan_in = math.prod(owner.weight.shape[1:])
        fans[f"{dot}weight"] = (fan_in, "weight")
        if owner.bias is not None:
            fans[f"{dot}bias"] = (fan_in, "bias")
    return fans
