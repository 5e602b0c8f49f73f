"""Tensors of a module that share memory, which a pack or a change of precision would separate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from noisescale.errors import BadInput
from noisescale.sweeps.module_state import tensors_in_attributes


def check_memory(module: nn.Module, compute: Callable[[nn.Module], object]) -> None:
    """Check that no tensor of a module is a part of a parameter or of a buffer.

    A tied parameter is one tensor with two names, which is allowed. An attribute that the first pass replaces is
    allowed too.

    Args:
        module: A new module. It is changed.
        compute: Computes a pass.

    Raises:
        BadInput: A parameter, a buffer or an attribute shares memory with another one.
    """
    registered = [*module.named_parameters(), *module.named_buffers()]
    for path, tensor in registered:
        if (name := _overlapping(tensor, registered)) is not None:
            required = "parameters and buffers with memory of their own (to tie two, assign the tensor itself)"
            raise BadInput("model.family", required, f"{path}, which shares memory with {name}")
    known = {id(tensor) for _, tensor in registered}
    parts = [
        (path, tensor, name)
        for path, tensor in tensors_in_attributes(module)
        if id(tensor) not in known and (name := _overlapping(tensor, registered)) is not None
    ]
    if not parts:
        return
    compute(module)
    remaining = {id(tensor) for _, tensor in tensors_in_attributes(module)}
    for path, tensor, name in parts:
        if id(tensor) in remaining:
            required = "a module that takes parts of parameters and buffers in its passes, not before"
            raise BadInput("model.family", required, f"{path}, which shares memory with {name}")


def _overlapping(tensor: Tensor, registered: list[tuple[str, Tensor]]) -> str | None:
    if (extent := _extent(tensor)) is None:
        return None
    for name, other in registered:
        place = None if other is tensor else _extent(other)
        if place is not None and extent[0] < place[1] and place[0] < extent[1]:
            return name
    return None


def _extent(tensor: Tensor) -> tuple[int, int] | None:
    """Return the addresses between which the entries of a tensor lie. None if they have no place in memory."""
    if is_lazy(tensor) or tensor.layout != torch.strided or tensor.is_meta or not tensor.numel():
        return None
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()
