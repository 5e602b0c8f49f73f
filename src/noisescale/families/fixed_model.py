"""One fixed model: a module, or a factory that takes no width."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from noisescale.errors import BadInput
from noisescale.families.copying import copy_module
from noisescale.input_shapes import InputShape

# The width of a fixed model in tables, whose rows all have a width.
FIXED_WIDTH = 1


@dataclass(frozen=True)
class FixedModel:
    """A factory `(width, input_shape, num_classes) -> nn.Module` that ignores the width.

    Args:
        model: A module, which is copied at every call; or a function `(input_shape, num_classes)` or `()` that returns
            a module.
        reference: Name of the model, for messages.
        allow_width: Whether the function may take a width, which is then 1.

    Raises:
        BadInput: The function takes a width, and this is not allowed.
    """

    model: Any
    reference: str
    allow_width: bool = False

    def __post_init__(self) -> None:
        if not self.allow_width and self._takes_width:
            raise BadInput("grid.width", f"given, because {self.reference} takes a width", "none")

    def __call__(self, width: int, input_shape: InputShape, num_classes: int) -> Any:
        """Return a module of the model.

        Args:
            width: Not used.
            input_shape: Shape of one example.
            num_classes: Number of outputs.
        """
        if isinstance(self.model, nn.Module):
            return copy_module(self.model)
        arguments = (input_shape, num_classes)
        if self._takes_width:
            return self.model(FIXED_WIDTH, *arguments)
        return self.model(*arguments) if self._takes(*arguments) else self.model()

    @property
    def _takes_width(self) -> bool:
        if isinstance(self.model, nn.Module):
            return False
        return self._takes(FIXED_WIDTH, (1,), 1) and not self._takes((1,), 1)

    def _takes(self, *arguments: Any) -> bool:
        try:
            inspect.signature(self.model).bind(*arguments)
        except (TypeError, ValueError):
            return False
        return True
