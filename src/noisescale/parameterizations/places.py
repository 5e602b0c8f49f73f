"""What each parameter is within one module: the weight of a layer, its bias, or something else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

Role = Literal["weight", "bias", "other"]
Rows = tuple[tuple[int, int], ...]

# Modules whose `weight` maps fan_in = numel / shape[0] inputs to each of shape[0] outputs.
_LINEAR_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Place:
    """One parameter's place in one module.

    Args:
        fan_in: D, inputs per output unit (for a convolution kernel_size² · channels); of the layer, for a bias.
        output_axis: The axis that counts the layer's output units; None where no layer is known.
        weight: For a bias, the name of its layer's weight.
        takes_rows: Whether rows may be named as queries: those of a linear map's weight.
        query_rows: Half-open ranges of the rows that are known to make queries.
        head_size: Entries of one query there.
        is_constant: Whether every entry has the same value.
    """

    shape: tuple[int, ...]
    role: Role = "other"
    fan_in: int | None = None
    output_axis: int | None = None
    weight: str | None = None
    takes_rows: bool = False
    query_rows: Rows = ()
    head_size: int | None = None
    is_constant: bool = False


def places(module: nn.Module) -> dict[str, Place]:
    """The place of every parameter, under each of its names where a tensor is tied, in registration order."""
    tensors = dict(module.named_parameters(remove_duplicate=False))
    found = {name: Place(tuple(tensor.shape)) for name, tensor in tensors.items()}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for name, place in _parameters_of(owner):
            if f"{dot}{name}" in found:
                weight = None if place.weight is None else f"{dot}{place.weight}"
                found[f"{dot}{name}"] = replace(place, weight=weight)
    return {name: replace(place, is_constant=_is_constant(tensors[name])) for name, place in found.items()}


def _parameters_of(owner: nn.Module) -> Iterator[tuple[str, Place]]:
    """The parameters that a layer of a known type owns itself, by their names in it."""
    if isinstance(owner, _LINEAR_MAPS):
        shape = tuple(owner.weight.shape)
        fan_in = math.prod(shape[1:])
        yield "weight", Place(shape, "weight", fan_in, output_axis=0, takes_rows=True)
        if owner.bias is not None:
            yield "bias", Place(tuple(owner.bias.shape), "bias", fan_in, output_axis=0, weight="weight")
    elif isinstance(owner, nn.Embedding) and owner.padding_idx is None and owner.max_norm is None:
        # A row is what a one-hot input picks out: each output unit has one input that is not zero, at every width.
        yield "weight", Place(tuple(owner.weight.shape), "weight", 1, output_axis=1)
    elif isinstance(owner, nn.MultiheadAttention):
        yield from _attention(owner)


def _attention(owner: nn.MultiheadAttention) -> Iterator[tuple[str, Place]]:
    """The projections of torch's own attention, whose queries are its first rows; its output layer is a `Linear`."""
    queries: Rows = ((0, owner.embed_dim),)
    for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
        weight: torch.Tensor | None = getattr(owner, name)
        if weight is not None:
            rows = queries if name in ("in_proj_weight", "q_proj_weight") else ()
            shape = tuple(weight.shape)
            yield name, Place(shape, "weight", shape[1], 0, query_rows=rows, head_size=owner.head_dim)
    bias: torch.Tensor | None = owner.in_proj_bias
    if bias is not None:
        shape = tuple(bias.shape)
        yield "in_proj_bias", Place(shape, "bias", owner.embed_dim, 0, query_rows=queries, head_size=owner.head_dim)


def _is_constant(tensor: torch.Tensor) -> bool:
    values = tensor.detach().flatten()
    return bool((values == values[0]).all()) if len(values) else True
