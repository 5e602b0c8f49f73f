"""Keeps a module as it is while it computes: its buffers, and whatever it keeps in attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def preserved_state(*modules: nn.Module) -> Iterator[None]:
    """Restore modules after the block: attributes, buffers, and what was registered inside. Parameters are not copied.

    Lists and dictionaries in attributes are restored with their entries, but not what lies deeper.

    Args:
        modules: The modules.
    """
    restore = [_snapshot(part) for module in modules for part in module.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for restore_part in restore:
                restore_part()


def _snapshot(part: nn.Module) -> Callable[[], None]:
    attributes = dict(vars(part))
    contents = [function for value in attributes.values() if (function := _contents(value)) is not None]
    buffers = [_tensor(buffer) for buffer in part.buffers(recurse=False)]

    def restore() -> None:
        for name in vars(part).keys() - attributes.keys():
            del vars(part)[name]
        vars(part).update(attributes)
        for restore_one in (*contents, *buffers):
            restore_one()

    return restore


def _contents(value: Any) -> Callable[[], None] | None:
    """Return a function that restores what a mutable value holds. None for a value that cannot change."""
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, dict):
        return partial(_refill, value, dict(value))
    if isinstance(value, list):
        return partial(value.__setitem__, slice(None), list(value))
    return None


def _refill(values: dict[Any, Any], entries: dict[Any, Any]) -> None:
    if values.keys() == entries.keys() and all(values[name] is entry for name, entry in entries.items()):
        return
    values.clear()
    values.update(entries)


def _tensor(tensor: Tensor) -> Callable[[], None]:
    before = tensor.detach().clone()

    def restore() -> None:
        # Only if it has changed: writing to a tensor of a forward pass would spoil the caller's backward pass.
        if not torch.equal(tensor, before):
            tensor.copy_(before)

    return restore
