"""The state that a module keeps beside its parameters and buffers: numbers, containers and tensors in attributes."""

from __future__ import annotations

import hashlib
import pickle
import random
from collections import deque
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

# What a module of torch keeps about itself.
_OF_TORCH = frozenset(vars(nn.Module()))
# Containers and objects are followed to this depth. What lies deeper belongs to libraries.
_DEPTH = 4
_MOST_ENTRIES = 1000


def attributes(module: nn.Module) -> dict[str, object]:
    """Return the values of all attributes by path, in a form that can be compared.

    Args:
        module: Any module.
    """
    found: dict[str, object] = {}
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for key, value in vars(part).items():
            if key not in _OF_TORCH:
                found.update(_entries(f"{name}.{key}".lstrip("."), value, _DEPTH))
    return found


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the paths whose values differ, or exist only once."""
    return [path for path in {**before, **after} if path not in before or before[path] != after.get(path)]


def move_counters(module: nn.Module, before: Mapping[str, object], after: Mapping[str, object], times: int) -> None:
    """Move each number that changed from `before` to `after` on by so many times its change.

    Args:
        module: The module. Its attributes are changed.
        before: Attributes before a pass.
        after: Attributes after it.
        times: Number of passes to skip.
    """
    for name, part in module.named_modules():
        for key, value in list(vars(part).items()):
            path = f"{name}.{key}".lstrip(".")
            old, new = before.get(path), after.get(path)
            if key not in _OF_TORCH and all(_is_number(number) for number in (value, old, new)) and old != new:
                setattr(part, key, value + times * (new - old))  # type: ignore[operator]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _entries(path: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, str | bytes | bool | int | float | complex | None):
        yield path, value
    elif isinstance(value, Tensor):
        yield path, _of_tensor(value)
    elif isinstance(value, np.ndarray):
        yield path, (value.shape, value.dtype.str, value.tobytes() if value.dtype.kind != "O" else "")
    elif isinstance(value, np.random.Generator | np.random.RandomState):
        state = value.get_state() if isinstance(value, np.random.RandomState) else value.bit_generator.state
        yield path, pickle.dumps(state)
    elif isinstance(value, random.Random):
        yield path, value.getstate()
    elif isinstance(value, torch.Generator):
        yield path, value.get_state().numpy().tobytes()
    elif depth and isinstance(value, Mapping):
        yield f"{path} (length)", len(value)
        for key, entry in list(value.items())[:_MOST_ENTRIES]:
            yield from _entries(f"{path}[{key!r}]", entry, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset | deque):
        yield f"{path} (length)", len(value)
        for index, entry in enumerate(list(value)[:_MOST_ENTRIES]):
            yield from _entries(f"{path}[{index}]", entry, depth - 1)
    elif depth and not isinstance(value, nn.Module) and hasattr(value, "__dict__") and not callable(value):
        for key, entry in list(vars(value).items())[:_MOST_ENTRIES]:
            yield from _entries(f"{path}.{key}", entry, depth - 1)


def _of_tensor(tensor: Tensor) -> object:
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or tensor.is_meta:
        return None
    values = tensor.detach().cpu()
    if values.layout != torch.strided:
        values = values.to_dense()
    data = values.contiguous().flatten().view(torch.uint8) if values.numel() else values
    return tuple(values.shape), str(values.dtype), hashlib.sha256(data.numpy().tobytes()).digest()
