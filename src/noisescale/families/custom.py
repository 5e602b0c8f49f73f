"""A user's model, named as `"package.module:factory"`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from noisescale.errors import BadInput, one_line
from noisescale.families.late_registration import register, registers_late
from noisescale.user_code import contained

Factory = Callable[[int, tuple[int, ...], int], nn.Module]


def load_factory(reference: str) -> Factory:
    """Import the user's factory.

    Args:
        reference: Name of the factory, "package.module:factory".

    Raises:
        BadInput: The module or the function does not exist.
    """
    factory = import_named(reference, "model.family")
    if not callable(factory):
        module_name, _, attribute = reference.partition(":")
        raise BadInput("model.family", f"a function {attribute!r} in module {module_name!r}", repr(factory))
    return factory  # type: ignore[no-any-return]


def import_named(reference: str, key: str) -> Any:
    """Import an object by name. Modules in the current folder can be imported, as with `python -m`.

    Args:
        reference: Name of the object, "package.module:name".
        key: The key of the spec or the argument that contains the name, for messages.

    Returns:
        The object. None if the module has no such name.

    Raises:
        BadInput: The module cannot be imported.
    """
    module_name, _, attribute = reference.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with contained():
            module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        required = f"a module {module_name!r} that can be imported from this folder, or is installed"
        raise BadInput(key, required, one_line(error)) from error
    return getattr(module, attribute, None)


@dataclass(frozen=True)
class CustomBuild:
    """The user's factory, with a check that it returns a module.

    Args:
        factory: The factory.
        reference: Name of the factory, for messages.
    """

    factory: Factory
    reference: str

    def __call__(self, width: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Call the factory, and let the module register what it would register in its first forward pass.

        Args:
            width: Width of the model.
            input_shape: Shape of one example.
            num_classes: Number of outputs.

        Raises:
            BadInput: The factory raises an error, or returns something that is not a module or has no parameters.
        """
        try:
            with contained():
                module = self.factory(width, input_shape, num_classes)
        except Exception as error:  # a user's factory may raise anything
            call = f"{self.reference}(width={width}, input_shape={input_shape}, num_classes={num_classes})"
            raise BadInput("model.family", f"{call} must return a module", one_line(error)) from error
        if not isinstance(module, nn.Module):
            raise BadInput("model.family", f"{self.reference} must return a torch.nn.Module", type(module).__name__)
        # A compiled module computes what the module inside computes, which can be packed.
        if type(module).__name__ == "OptimizedModule":
            module = cast(nn.Module, module._orig_mod)
        with contained():
            if _registers_late(self, width, input_shape, num_classes, module):
                register(module, input_shape)
        if not any(True for _ in module.parameters()):
            raise BadInput("model.family", f"{self.reference} must return a module with parameters", "none")
        return module


# Whether the modules of a factory register anything late, by factory, width and data.
_LATE: dict[tuple[CustomBuild, int, tuple[int, ...], int], bool] = {}


def _registers_late(
    build: CustomBuild, width: int, input_shape: tuple[int, ...], num_classes: int, module: nn.Module
) -> bool:
    key = (build, width, input_shape, num_classes)
    if key not in _LATE:
        _LATE[key] = registers_late(module, input_shape)
    return _LATE[key]
