"""Modules that register parameters, buffers or submodules in their first forward pass, such as torch's lazy layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from noisescale.errors import BadInput
from noisescale.families.copying import copy_module
from noisescale.seeding import seeded


def registers_late(module: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Return whether a first pass in evaluation mode registers anything. The module stays as it is.

    Args:
        module: A new module.
        input_shape: Shape of one example.

    Raises:
        BadInput: What the pass registers depends on the examples, which differ between runs.
    """
    first, second = copy_module(module), copy_module(module)
    try:
        with seeded(0):
            register(first, input_shape, 0.0)
        if not _new_names(module, first):
            return False
        with seeded(0):
            register(second, input_shape, 1.0)
    except Exception:  # a module that cannot compute its outputs is refused with its error elsewhere
        return False
    values = _tensors(second)
    for name, tensor in _tensors(first).items():
        if not torch.equal(tensor, values[name]):
            required = "a module whose parameters and buffers do not depend on the examples of the first forward pass"
            raise BadInput("model", required, f"{name}, which does")
    return True


def register(module: nn.Module, input_shape: tuple[int, ...], value: float = 0.0) -> None:
    """Compute one pass in evaluation mode, in which the module registers what it lacks.

    Args:
        module: The module. It keeps its mode.
        input_shape: Shape of one example.
        value: Every entry of the two examples.
    """
    training = module.training
    with torch.no_grad():
        module.eval()(torch.full((2, *input_shape), value))
    module.train(training)


def _new_names(before: nn.Module, after: nn.Module) -> list[str]:
    lazy = [name for name, tensor in _all(before).items() if is_lazy(tensor)]
    return lazy + [name for name in _all(after) if name not in _all(before)]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in _all(module).items()}


def _all(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
