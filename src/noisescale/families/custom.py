"""A user's model, named as `"package.module:factory"`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from noisescale.errors import BadInput

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
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        required = f"a module {module_name!r} that can be imported from this folder, or is installed"
        raise BadInput(key, required, f"{type(error).__name__}: {error}") from error
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
        """Call the factory.

        Args:
            width: Width of the model.
            input_shape: Shape of one example.
            num_classes: Number of outputs.

        Raises:
            BadInput: The factory raises an error, or returns something that is not a module.
        """
        try:
            module = self.factory(width, input_shape, num_classes)
        except Exception as error:  # a user's factory may raise anything
            call = f"{self.reference}(width={width}, input_shape={input_shape}, num_classes={num_classes})"
            required = f"{call} must return a module"
            raise BadInput("model.family", required, f"{type(error).__name__}: {error}") from error
        if not isinstance(module, nn.Module):
            raise BadInput("model.family", f"{self.reference} must return a torch.nn.Module", type(module).__name__)
        return module
