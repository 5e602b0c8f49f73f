"""Keeps a module as it is while it computes: its buffers, and whatever it keeps in attributes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, MutableSet
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Restore = Callable[[], object]


@contextmanager
def preserved_state(*modules: nn.Module) -> Iterator[None]:
    """Restore modules after the block: attributes, buffers, and what was registered inside. Parameters are not copied.

    Tensors, arrays, generators, lists, dictionaries, sets and queues in attributes are restored with their contents, at
    any depth. Objects of other classes are not: they may hold anything, such as the whole trainer.

    Args:
        modules: The modules.
    """
    restores = _snapshots(modules)
    try:
        yield
    finally:
        with torch.no_grad():
            for restore in restores:
                restore()


def _snapshots(modules: tuple[nn.Module, ...]) -> list[Restore]:
    """Return the functions that restore the modules and all that they hold."""
    # The values are held as well, so that no id is that of an older value.
    seen: dict[int, Any] = {}
    restores, waiting = [], list[Any](modules)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if (restore := _snapshot(value)) is not None:
            restores.append(restore)
        waiting += _contents(value)
    return restores


def _contents(value: Any) -> list[Any]:
    """Return the values inside a module or a container."""
    if isinstance(value, nn.Module):
        return list(vars(value).values())
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, deque)) else []


def _snapshot(value: Any) -> Restore | None:
    """Return a function that restores what a value holds. None for a value that is not restored."""
    if isinstance(value, nn.Module):
        return _attributes(value)
    if isinstance(value, nn.Parameter):
        return None
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray):
        return partial(np.copyto, value, value.copy()) if value.flags.writeable else None
    if isinstance(value, dict):
        return partial(_refill, value, dict(value))
    if isinstance(value, list):
        return partial(value.__setitem__, slice(None), list(value))
    if isinstance(value, deque):
        return partial(_refill_queue, value, list(value))
    if isinstance(value, MutableSet):
        return partial(_refill_set, value, set(value))
    return _generator(value)


def _attributes(part: nn.Module) -> Restore:
    attributes = dict(vars(part))

    def restore() -> None:
        for name in vars(part).keys() - attributes.keys():
            del vars(part)[name]
        vars(part).update(attributes)

    return restore


def _generator(value: Any) -> Restore | None:
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return partial(value.setstate, value.getstate())
    return None


def _refill(values: dict[Any, Any], entries: dict[Any, Any]) -> None:
    if values.keys() == entries.keys() and all(values[name] is entry for name, entry in entries.items()):
        return
    values.clear()
    values.update(entries)


def _refill_queue(values: deque[Any], entries: list[Any]) -> None:
    values.clear()
    values.extend(entries)


def _refill_set(values: MutableSet[Any], entries: set[Any]) -> None:
    values.clear()
    for entry in entries:
        values.add(entry)


def _tensor(tensor: Tensor) -> Restore | None:
    if tensor.layout != torch.strided or tensor.is_meta:
        return None
    before = tensor.detach().clone()

    def restore() -> None:
        # Only if it has changed: writing to a tensor of a forward pass would spoil the caller's backward pass.
        if not torch.equal(tensor, before):
            tensor.copy_(before)

    return restore
