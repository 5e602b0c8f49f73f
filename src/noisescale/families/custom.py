"""A user's model, named as `"package.module:factory"`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from noisescale.errors import BadInput, one_line
from noisescale.families.example_inputs import zero_inputs
from noisescale.families.fixed_model import FixedModel
from noisescale.families.late_registration import register, registering_modes
from noisescale.families.selected_output import select_output
from noisescale.input_shapes import InputShape, NamedShapes
from noisescale.named_inputs import take_dictionaries
from noisescale.user_code import CodeEnded, contained, import_named

# The shape of one example is a tuple, or a dictionary of tuples for inputs by name.
Factory = Callable[[int, Any, int], nn.Module]


def load_factory(reference: str) -> Factory:
    """Import the user's factory.

    Args:
        reference: Name of the factory, "package.module:factory".

    Raises:
        BadInput: The module or the function does not exist.
    """
    factory = import_named(reference, "model.family")
    if not callable(factory):
        raise BadInput("model.family", f"{reference} must be a function that returns a module", repr(factory))
    return factory  # type: ignore[no-any-return]


@dataclass(frozen=True)
class CustomBuild:
    """The user's factory, with a check that it returns a module.

    Args:
        factory: The factory.
        reference: Name of the factory, for messages.
    """

    factory: Factory
    reference: str

    def __call__(self, width: int, input_shape: InputShape, num_classes: int, outputs: str | None = None) -> nn.Module:
        """Call the factory, and let the module register what it would register in its first passes.

        Args:
            width: Width of the model.
            input_shape: Shape of one example.
            num_classes: Number of outputs.
            outputs: Entry of the module's outputs that the loss takes; None for all of them.

        Raises:
            BadInput: The factory raises an error, or returns something that is not a module, or has no trained
                parameters, or parameters that are no real numbers.
        """
        try:
            with contained():
                module = self.factory(width, input_shape, num_classes)
        except Exception as error:  # a user's factory may raise anything
            size = "" if isinstance(self.factory, FixedModel) else f"width={width}, "
            call = f"{self.reference}({size}input_shape={input_shape}, num_classes={num_classes})"
            raise BadInput("model.family", f"{call} must return a module", one_line(error)) from error
        if not isinstance(module, nn.Module):
            raise BadInput("model.family", f"{self.reference} must return a torch.nn.Module", type(module).__name__)
        # A compiled module computes what the module inside computes, which can be packed.
        if type(module).__name__ == "OptimizedModule":
            module = cast(nn.Module, module._orig_mod)
        if isinstance(input_shape, NamedShapes):
            take_dictionaries(module, "model.family")
        try:
            with contained():
                for training in _registering_modes(self, width, input_shape, num_classes, module):
                    register(module, zero_inputs(input_shape, 2), training)
        except CodeEnded as error:
            raise BadInput("model.family", f"{self.reference} must return a module", one_line(error)) from error
        if not any(parameter.requires_grad for parameter in module.parameters()):
            frozen = ", ".join(name for name, _ in module.named_parameters())
            got = f"requires_grad = False for {frozen}" if frozen else "none"
            raise BadInput("model.family", f"{self.reference} must return a module with parameters to train", got)
        for name, parameter in module.named_parameters():
            if not parameter.is_floating_point():
                required = "parameters of real numbers (torch.view_as_complex makes complex ones of them; or a buffer)"
                raise BadInput("model.family", required, f"{name} of {str(parameter.dtype).removeprefix('torch.')}")
        return module if outputs is None else select_output(module, outputs)


# The modes in which modules of a factory register anything late, by factory, width and data. The factory is part of the
# value, so that no other one gets its id.
_LATE: dict[tuple[int, int, InputShape, int], tuple[tuple[bool, ...], Factory]] = {}


def _registering_modes(
    build: CustomBuild, width: int, input_shape: InputShape, num_classes: int, module: nn.Module
) -> tuple[bool, ...]:
    key = (id(build.factory), width, input_shape, num_classes)
    if key not in _LATE:
        _LATE[key] = registering_modes(module, input_shape), build.factory
    return _LATE[key][0]
