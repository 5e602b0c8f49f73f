"""Comparisons of tensors of any layout: of their entries, to the bit or up to rounding, and of their shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from noisescale.errors import BadInput

# Rounding errors of sums in another order, in units of the last digit of the largest entry.
_ROUNDING = 8


def equal_tensors(first: Tensor, second: Tensor, *, rounding: bool = False) -> bool:
    """Return whether two tensors have equal shapes and entries. NaN equals NaN.

    Args:
        first: A tensor.
        second: Another tensor.
        rounding: Whether entries may differ as sums do that are added in another order.
    """
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    first, second = _dense(first), _dense(second)
    if torch.equal(torch.nan_to_num(first), torch.nan_to_num(second)):
        return torch.equal(first.isnan(), second.isnan())
    if not rounding or not (first.is_floating_point() or first.is_complex()):
        return False
    finite = first.isfinite()
    if not torch.equal(finite, second.isfinite()) or not equal_tensors(first[~finite], second[~finite]):
        return False
    scale = first[finite].abs().max()
    return bool((first[finite] - second[finite]).abs().max() <= _ROUNDING * torch.finfo(first.dtype).eps * scale)


def check_replaced(name: str, before: Tensor, after: Tensor) -> None:
    """Check that a buffer which a pass has put in the place of another has the shape and the kind of numbers of that.

    Args:
        name: Name of the buffer.
        before: The buffer before the pass.
        after: The buffer after it.

    Raises:
        BadInput: It has not.
    """
    kinds = [(tuple(tensor.shape), _kind(tensor.dtype)) for tensor in (before, after)]
    if kinds[0] != kinds[1]:
        required = "a module whose buffers keep their shapes and their kinds of numbers"
        texts = [f"{kind} of shape {shape}" for shape, kind in kinds]
        raise BadInput("model.family", required, f"{name}, {texts[0]}, then {texts[1]}")


def _kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "booleans"
    return "floats" if dtype.is_floating_point else "complex numbers" if dtype.is_complex else "whole numbers"


def _dense(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor if tensor.layout == torch.strided else tensor.to_dense()
