"""Modules that register parameters, buffers or submodules in their first passes, such as torch's lazy layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
)
from torch.nn.parameter import is_lazy

from noisescale.errors import BadInput
from noisescale.families.comparisons import equal_tensors
from noisescale.families.copying import copy_module
from noisescale.families.example_inputs import random_inputs, zero_inputs
from noisescale.families.modes import in_mode
from noisescale.input_shapes import InputShape
from noisescale.named_inputs import Inputs
from noisescale.seeding import seeded

# Values of buffers at their registration, by the layer and the name in it.
_Initial = dict[tuple[nn.Module, str], Tensor]


def registering_modes(module: nn.Module, input_shape: InputShape) -> tuple[bool, ...]:
    """Return the modes in which a first pass registers anything, in order. The module stays as it is.

    Args:
        module: A new module.
        input_shape: Shape of one example.

    Returns:
        False for evaluation mode, True for training mode.

    Raises:
        BadInput: What a pass registers depends on the examples, which differ between runs.
    """
    modes = []
    first, second = copy_module(module), copy_module(module)
    examples = random_inputs(input_shape, 2)
    for training in (False, True):
        before = {name for name, tensor in _tensors(first).items() if not is_lazy(tensor)}
        try:
            for trial, inputs in ((first, zero_inputs(input_shape, 2)), (second, examples)):
                with seeded(0):
                    register(trial, inputs, training)
        except Exception:  # a module that cannot compute its outputs is refused with its error elsewhere
            break
        tensors, others = _tensors(first), _tensors(second)
        if tensors.keys() <= before:
            continue
        modes.append(training)
        for name in {**tensors, **others}:
            if not (name in tensors and name in others and equal_tensors(tensors[name], others[name])):
                required = "a module whose parameters and buffers do not depend on the examples of the first passes"
                raise BadInput("model", required, f"{name}, which does")
    return tuple(modes)


def register(module: nn.Module, inputs: Inputs, training: bool) -> None:
    """Compute one pass, in which the module registers what it lacks.

    A pass in training mode also changes buffers. They get the values back that they had before, or at their
    registration.

    Args:
        module: The module. It keeps its mode.
        inputs: Some examples.
        training: Whether the pass is in training mode.
    """
    mode = module.training
    before = {name: (buffer, buffer.detach().clone()) for name, buffer in module.named_buffers() if not is_lazy(buffer)}
    with torch.no_grad(), _recorded() as initial:
        in_mode(module, training)(inputs)
    module.train(mode)
    if not training:
        return
    for name, buffer in list(module.named_buffers()):
        layer, _, key = name.rpartition(".")
        owner = module.get_submodule(layer)
        if name in before:
            original, values = before[name]
            if buffer is not original:
                setattr(owner, key, original)
            original.data = values
        elif (owner, key) in initial:
            setattr(owner, key, initial[owner, key])


@contextmanager
def _recorded() -> Iterator[_Initial]:
    """Record the value of each buffer at its registration, or when its layer is complete and registered."""
    initial: _Initial = {}

    def at_buffer(layer: nn.Module, name: str, buffer: Tensor | None) -> None:
        if buffer is not None and not is_lazy(buffer):
            initial.setdefault((layer, name), buffer.detach().clone())

    def at_layer(_owner: nn.Module, _name: str, layer: nn.Module | None) -> None:
        for part in () if layer is None else layer.modules():
            tensors = part.named_buffers(recurse=False)
            initial.update({(part, name): tensor.detach().clone() for name, tensor in tensors if not is_lazy(tensor)})

    hooks = register_module_buffer_registration_hook(at_buffer), register_module_module_registration_hook(at_layer)
    try:
        yield initial
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
