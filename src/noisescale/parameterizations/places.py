"""The role of each parameter in a module: the weight of a layer, the bias of a layer, or another parameter."""

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
    """The role and the shape of one parameter in one module.

    Args:
        shape: Shape of the tensor.
        role: Role of the parameter: "weight", "bias" or "other".
        fan_in: Fan-in d of the layer, the number of inputs of each output unit. None if the layer is of no known type.
        output_axis: Axis of the output units. None if the layer is of no known type.
        weight: For a bias, the name of the weight of the same layer.
        takes_rows: Whether a user may name rows of the tensor as queries. This is so for the weights of linear maps.
        query_rows: Half-open ranges of the rows that are known to make queries.
        head_size: Number of entries of one query in the query rows.
        is_constant: Whether all entries have the same value.
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


def find_places(module: nn.Module) -> dict[str, Place]:
    """Find the role of every parameter. A tied tensor appears under each of its names.

    Args:
        module: The module.

    Returns:
        The places by name, in the order of registration.
    """
    tensors = dict(module.named_parameters(remove_duplicate=False))
    places = {name: Place(tuple(tensor.shape)) for name, tensor in tensors.items()}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for name, place in _parameters_of(owner):
            if f"{dot}{name}" in places:
                weight = None if place.weight is None else f"{dot}{place.weight}"
                places[f"{dot}{name}"] = replace(place, weight=weight)
    return {name: replace(place, is_constant=_is_constant(tensors[name])) for name, place in places.items()}


def _parameters_of(owner: nn.Module) -> Iterator[tuple[str, Place]]:
    """Yield the parameters of a layer of a known type, with their names in the layer."""
    if isinstance(owner, _LINEAR_MAPS):
        shape = tuple(owner.weight.shape)
        fan_in = math.prod(shape[1:])
        yield "weight", Place(shape, "weight", fan_in, output_axis=0, takes_rows=True)
        if owner.bias is not None:
            yield "bias", Place(tuple(owner.bias.shape), "bias", fan_in, output_axis=0, weight="weight")
    elif isinstance(owner, nn.Embedding) and owner.padding_idx is None and owner.max_norm is None:
        # The input is one-hot, so each output unit has one input that is not zero, at every width.
        yield "weight", Place(tuple(owner.weight.shape), "weight", 1, output_axis=1)
    elif isinstance(owner, nn.MultiheadAttention):
        yield from _attention(owner)


def _attention(owner: nn.MultiheadAttention) -> Iterator[tuple[str, Place]]:
    """Yield the input projections of torch's attention. The first rows make queries. The output layer is a `Linear`."""
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
