"""Tensors of a module that share memory, which a pack or a change of precision would separate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from noisescale.errors import BadInput
from noisescale.families import equal_tensors
from noisescale.sweeps.module_state import tensors_in_attributes


def check_memory(module: nn.Module, start: Mapping[str, Tensor], compute: Callable[[nn.Module], object]) -> None:
    """Check that no tensor of a module is a part of a parameter, or of a buffer that a pass changes.

    A tied parameter is one tensor with two names, which is allowed. An attribute that the first pass replaces is
    allowed too.

    Args:
        module: A new module. It is changed.
        start: Values of its parameters and buffers.
        compute: Computes a pass from these values.

    Raises:
        BadInput: A parameter, a buffer that moves, or an attribute shares memory with another one.
    """
    parameters, buffers = list(module.named_parameters()), list(module.named_buffers())
    registered = [*parameters, *buffers]
    _refuse_shared(parameters, registered)
    known = {id(tensor) for _, tensor in registered}
    parts = [(path, tensor) for path, tensor in tensors_in_attributes(module) if id(tensor) not in known]
    shared = [(*part, pair) for part in [*parts, *buffers] if (pair := _overlapping(part[1], registered)) is not None]
    if not shared:
        return
    compute(module)
    remaining = {id(tensor) for _, tensor in (*tensors_in_attributes(module), *module.named_buffers())}
    after = dict(module.named_buffers())
    for path, tensor, name in shared:
        moves = name not in after or not equal_tensors(start[name], after[name])
        if id(tensor) in remaining and moves:
            required = "a module that takes parts of parameters, and of buffers that change, in its passes, not before"
            raise BadInput("model.family", required, f"{path}, which shares memory with {name}")


def _refuse_shared(parameters: Sequence[tuple[str, Tensor]], registered: Sequence[tuple[str, Tensor]]) -> None:
    for path, tensor in parameters:
        if (name := _overlapping(tensor, registered)) is not None:
            required = "parameters with memory of their own (to tie two, assign the tensor itself)"
            raise BadInput("model.family", required, f"{path}, which shares memory with {name}")


def _overlapping(tensor: Tensor, registered: Sequence[tuple[str, Tensor]]) -> str | None:
    if (extent := _extent(tensor)) is None:
        return None
    for name, other in registered:
        place = None if other is tensor else _extent(other)
        if place is not None and extent[0] < place[1] and place[0] < extent[1] and _share_entries(tensor, other):
            return name
    return None


def _extent(tensor: Tensor) -> tuple[int, int] | None:
    """Return the addresses between which the entries of a tensor lie. None if they have no place in memory."""
    if is_lazy(tensor) or tensor.layout != torch.strided or tensor.is_meta or not tensor.numel():
        return None
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()


def _share_entries(first: Tensor, second: Tensor) -> bool:
    return bool(np.intersect1d(_addresses(first), _addresses(second)).size)


def _addresses(tensor: Tensor) -> NDArray[np.int64]:
    """Return the addresses of all entries. Tensors of different parts of one memory may lie between each other."""
    addresses = np.full((1,) * tensor.dim(), tensor.data_ptr(), dtype=np.int64)
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        steps = np.arange(size, dtype=np.int64) * stride * tensor.element_size()
        addresses = addresses + steps.reshape([-1 if place == axis else 1 for place in range(tensor.dim())])
    return addresses.ravel()
