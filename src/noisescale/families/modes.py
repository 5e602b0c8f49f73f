"""The mode and the precision of a module of any class."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def in_mode(module: nn.Module, training: bool) -> nn.Module:
    """Return a module after it has been set to training or evaluation mode.

    Args:
        module: The module. A class that overrides `train` may not return the module from it.
        training: Whether to set training mode.
    """
    module.train(training)
    return module


def converted(module: nn.Module, dtype: torch.dtype, device: str | torch.device | None = None) -> nn.Module:
    """Return a module after it has been moved to a precision and a device.

    Args:
        module: The module. `nn.Module.to` would drop the imaginary parts of its complex tensors.
        dtype: Precision of real numbers. Complex numbers get two numbers of this precision.
        device: The device. None for the present one.
    """
    module._apply(lambda tensor: tensor.to(device=device, dtype=converted_dtype(tensor, dtype)))  # type: ignore[no-untyped-call]
    return module


def converted_dtype(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Return the kind of numbers of a tensor after its conversion to a precision of real numbers.

    Args:
        tensor: The tensor. Whole numbers and booleans stay as they are.
        dtype: The precision.
    """
    if tensor.is_complex():
        return dtype.to_complex()
    return dtype if tensor.is_floating_point() else tensor.dtype
