"""The state that a module keeps beside its parameters and buffers: numbers, containers and tensors in attributes."""

from __future__ import annotations

import hashlib
import itertools
import math
import pickle
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from itertools import islice
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from noisescale.user_code import is_of_user

# What a module of torch keeps about itself.
_OF_TORCH = frozenset(vars(nn.Module()))
# Containers and objects are followed to this depth. What lies deeper belongs to libraries.
_DEPTH = 4
_MAX_ENTRIES = 1000
_NUMBER = (int, float)
# Begins the path of an attribute of a class, which all instances share.
_OF_CLASS = "class "


def attributes(module: nn.Module) -> dict[str, object]:
    """Return the values of all attributes by path, in a form that can be compared.

    Args:
        module: Any module.
    """
    instances = [child for part in _parts(module) for child in _children(*part)]
    classes = [child for kind in _classes(module) for child in _class_attributes(kind)]
    return {name: entry for path, _, value in instances + classes for name, entry in _entries(path, value, _DEPTH)}


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the paths whose values differ, or exist only once."""
    return [path for path in {**before, **after} if path not in before or before[path] != after.get(path)]


def are_numbers(paths: Iterable[str], values: Mapping[str, object]) -> bool:
    """Return whether all of these paths are numbers of instances, which `move_counters` can move."""
    return all(_OF_CLASS not in path and _is_number(values.get(path)) for path in paths)


def tensors_in_attributes(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the tensors in attributes, and in their containers, by path. Parameters and buffers are left out.

    Args:
        module: Any module.
    """
    waiting: list[tuple[str, object, int]] = [(*part, _DEPTH + 1) for part in _parts(module)]
    tensors = []
    for path, container, depth in waiting:
        for where, _, value in _children(path, container):
            if isinstance(value, Tensor):
                tensors.append((where, value))
            elif depth and not isinstance(value, nn.Module) and (isinstance(value, Mapping) or not callable(value)):
                waiting.append((where, value, depth - 1))
    return tensors


def move_counters(
    module: nn.Module, before: Mapping[str, object], after: Mapping[str, object], passes: Callable[[float], int]
) -> None:
    """Move each number that changed from `before` to `after` on by many times its change.

    Args:
        module: The module. Its attributes are changed.
        before: Attributes before a pass.
        after: Attributes after it.
        passes: Returns the number of passes to skip, from the number of passes by which a number has changed so far.
    """
    steps = {
        path: passes(value / (value - old)) * (value - old)
        for path, value in after.items()
        if _is_number(value) and _is_number(old := before.get(path)) and old != value
    }
    for part in _parts(module):
        _move(*part, steps, _DEPTH + 1)


def _parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in module.named_modules() if not isinstance(part, torch.jit.ScriptModule)]


def _move(path: str, container: object, steps: Mapping[str, Any], depth: int) -> None:
    for where, key, value in _children(path, container) if depth else []:
        if where in steps and isinstance(value, Tensor):
            value.data += steps[where]
        elif where in steps and isinstance(value, np.ndarray):
            value += steps[where]
        elif where in steps and isinstance(container, dict | list | deque):
            container[key] = value + steps[where]
        elif where in steps and not isinstance(container, Mapping | tuple | set | frozenset):
            setattr(container, key, value + steps[where])
        else:
            _move(where, value, steps, depth - 1)


def _children(path: str, container: object) -> list[tuple[str, Any, Any]]:
    """Return the paths, the keys and the values in a container, or of the attributes of an object or of a layer."""
    try:
        if isinstance(container, Mapping):
            return [(f"{path}[{key!r}]", key, value) for key, value in islice(container.items(), _MAX_ENTRIES)]
        if isinstance(container, list | tuple | set | frozenset | deque):
            return [(f"{path}[{index}]", index, value) for index, value in enumerate(islice(container, _MAX_ENTRIES))]
        if isinstance(container, type):
            return []
        values = {key: getattr(container, key) for key in _slots(container) if hasattr(container, key)}
        values |= getattr(container, "__dict__", {})
        names = [key for key in values if not (isinstance(container, nn.Module) and key in _OF_TORCH)]
        return [(f"{path}.{key}".lstrip("."), key, values[key]) for key in names[:_MAX_ENTRIES]]
    except Exception:  # a container of the user's may raise anything, e.g. for a value that is not set
        return []


def _slots(container: object) -> list[str]:
    found = (vars(kind).get("__slots__", ()) for kind in type(container).__mro__)
    return [name for names in found for name in ((names,) if isinstance(names, str) else names)]


def _classes(module: nn.Module) -> list[type]:
    """Return the classes of the user that the layers of a module have."""
    kinds = dict.fromkeys(kind for part in module.modules() for kind in type(part).__mro__)
    return [kind for kind in kinds if is_of_user(kind.__module__)]


def _class_attributes(kind: type) -> list[tuple[str, str, Any]]:
    return [
        (f"{_OF_CLASS}{kind.__name__}.{name}", name, value)
        for name, value in vars(kind).items()
        if not name.startswith("__") and not callable(value)
    ]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and math.isfinite(value)


def _entries(path: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        yield path, "nan"  # which equals itself
    elif isinstance(value, str | bytes | bool | int | float | complex | None):
        yield path, value
    elif isinstance(value, itertools.count):
        yield path, repr(value)
    elif isinstance(value, Tensor):
        yield path, _of_tensor(value)
    elif isinstance(value, np.ndarray):
        if value.size == 1 and value.dtype.kind in "iuf":
            yield from _entries(path, value.item(), depth)
        else:
            yield path, (value.shape, value.dtype.str, value.tobytes() if value.dtype.kind != "O" else "")
    elif isinstance(value, np.random.Generator | np.random.RandomState):
        state = value.get_state() if isinstance(value, np.random.RandomState) else value.bit_generator.state
        yield path, pickle.dumps(state)
    elif isinstance(value, random.Random):
        yield path, value.getstate()
    elif isinstance(value, torch.Generator):
        yield path, value.get_state().numpy().tobytes()
    elif depth and not isinstance(value, nn.Module) and (isinstance(value, Mapping) or not callable(value)):
        if isinstance(value, Sized):
            yield f"{path} (length)", len(value)
        for where, _, entry in _children(path, value):
            yield from _entries(where, entry, depth - 1)


def _of_tensor(tensor: Tensor) -> object:
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or tensor.is_meta:
        return None
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    if values.layout != torch.strided:
        values = values.to_dense()
    if values.numel() == 1:
        return next(iter(_entries("", values.item(), 0)))[1]
    data = values.contiguous().flatten().view(torch.uint8) if values.numel() else values
    return tuple(values.shape), str(values.dtype), hashlib.sha256(data.numpy().tobytes()).digest()
