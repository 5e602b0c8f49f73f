"""Restores a tensor to the bit: its entries, its memory, and what autograd knows about it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Whole numbers of the same size, by bytes: equal bits are equal whole numbers, also for NaN and for zeros with a sign.
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def preserved_tensor(tensor: Tensor) -> Callable[[], None] | None:
    """Return a function that restores a tensor. None for a tensor whose entries cannot be read.

    Nothing is written to a tensor that has not changed. One that has changed is as if it had not: the caller's graph
    may have saved it, and a backward pass compares its version.

    Args:
        tensor: A parameter, a buffer, or another tensor.
    """
    is_dead = torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # its values are gone with the call that made it
    if is_dead or tensor.layout != torch.strided or tensor.is_meta:
        return None
    memory, entries = tensor.data, tensor.detach().clone()
    place, is_trained, is_computed = _place(tensor), tensor.requires_grad, tensor.grad_fn is not None
    gradient = tensor.grad if tensor.is_leaf else None
    # A view shares its version with a tensor that may have changed elsewhere.
    version = None if tensor.is_inference() or tensor._is_view() else tensor._version

    def restore() -> None:
        if _place(tensor) != place:
            tensor.data = memory
        if not _equal_bits(tensor, entries):
            tensor.copy_(entries)
        if tensor.grad_fn is not None and not is_computed and version is not None:
            tensor.detach_()
        if tensor.is_leaf and tensor.requires_grad != is_trained:
            tensor.requires_grad_(is_trained)
        if tensor.is_leaf and tensor.grad is not gradient:
            tensor.grad = gradient
        if version is not None and tensor._version != version:
            torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))

    return restore


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Return where the entries of a tensor are in memory, and how they are read."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _equal_bits(first: Tensor, second: Tensor) -> bool:
    if first.is_quantized:
        return torch.equal(first, second)
    return torch.equal(*(_whole_numbers(tensor) for tensor in (first, second)))


def _whole_numbers(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(_WHOLE_NUMBERS[tensor.element_size()])
