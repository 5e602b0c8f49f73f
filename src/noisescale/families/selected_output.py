"""The entry of a module's outputs that the loss takes, for modules that return tuples, dictionaries or objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from noisescale.errors import BadInput


def select_output(module: nn.Module, entry: str, key: str = "model.outputs") -> nn.Module:
    """Let a module return one entry of its outputs. Names of parameters and buffers stay as they are.

    Args:
        module: The module. Changed in place.
        entry: Key of a dictionary, attribute of an object, or index of a tuple or list, as text.
        key: Key of the spec or option that names the entry, for messages.

    Returns:
        The module.
    """
    if not any(isinstance(hook, _Selection) for hook in module._forward_hooks.values()):
        module.register_forward_hook(_Selection(entry, key))
    return module


class _Selection:
    """A hook that replaces the outputs of a module by one entry of them."""

    def __init__(self, entry: str, key: str) -> None:
        self._entry, self._key = entry, key

    def __call__(self, _module: nn.Module, _inputs: Any, outputs: Any) -> Any:
        # A copy of the module's may have selected it already.
        if isinstance(outputs, Tensor):
            raise BadInput(self._key, "left out for a module that returns a tensor", repr(self._entry))
        try:
            if isinstance(outputs, Mapping):
                return outputs[self._entry]
            if isinstance(outputs, tuple | list) and not hasattr(outputs, self._entry):
                return outputs[int(self._entry)]
            return getattr(outputs, self._entry)
        except (KeyError, IndexError, ValueError, AttributeError):
            raise BadInput(self._key, f"an entry of the outputs: {_entries(outputs)}", repr(self._entry)) from None


def _entries(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return ", ".join(map(repr, outputs))
    if isinstance(outputs, tuple | list):
        return f"an index from 0 to {len(outputs) - 1}"
    return ", ".join(map(repr, getattr(outputs, "__dict__", {}))) or f"an attribute of a {type(outputs).__name__}"
