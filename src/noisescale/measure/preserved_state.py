"""Keeps a module as it is while it computes: its parameters and buffers, and whatever it keeps in attributes."""

from __future__ import annotations

import queue
import random
import threading
from array import array
from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterator, MutableSet
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from functools import partial
from types import CellType, FunctionType, MemberDescriptorType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisescale.measure.preserved_tensors import preserved_tensor
from noisescale.user_code import is_of_user

Restore = Callable[[], object]

# Classes of Python whose objects only hold what is put into them.
_HOLDERS = (SimpleNamespace, UserDict, UserList)
_OF_THREADS = (
    threading.Thread, threading.Condition, threading.Event, threading.Semaphore, type(threading.Lock()),
    type(threading.RLock()), queue.Queue, queue.SimpleQueue, Executor,
)  # fmt: skip
_MOST_ENTRIES, _MOST_NUMBERS = 10_000, 1_000_000


@contextmanager
def preserved_state(*values: object) -> Iterator[Restore]:
    """Restore modules after the block: parameters, buffers, attributes, and what was registered inside.

    Tensors, arrays, generators, lists, dictionaries, sets, queues and objects of the user's classes are restored with
    their contents, at any depth, wherever attributes, bound methods, closures or defaults of functions lead to them.
    Not restored are objects of installed packages and objects that hold a thread, a lock or a queue between threads,
    because they may be the whole trainer; the entries of containers of more than 10,000; tensors and arrays of more
    than a million numbers in objects; and attributes of classes and globals.

    Args:
        values: The modules, and other objects and functions.

    Yields:
        A function that restores all of it within the block.
    """
    restores = _snapshots(values)

    def restore() -> None:
        with torch.no_grad():
            for restore_value in restores:
                restore_value()

    try:
        yield restore
    finally:
        restore()


def _snapshots(values: tuple[object, ...]) -> list[Restore]:
    """Return the functions that restore the values and all that they hold."""
    # The values are held as well, so that no id is that of an older value.
    seen: dict[int, Any] = {}
    # With each value, whether it lies in an object that is no module.
    restores, waiting = [], [(value, False) for value in values]
    while waiting:
        value, in_object = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if in_object and _is_large(value):
            continue
        if (restore := _snapshot(value)) is not None:
            restores.append(restore)
        slots = _slots(value)
        restores += [partial(_refill_slot, value, slot, *entry) for slot, entry in slots]
        contents = [*_contents(value), *(entry[0] for _, entry in slots if entry)]
        in_object = not isinstance(value, nn.Module) and (in_object or _is_holder(value))
        waiting += [(entry, in_object) for entry in contents]
    return restores


def _is_large(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() > _MOST_NUMBERS
    return isinstance(value, np.ndarray) and value.size > _MOST_NUMBERS


def _contents(value: Any) -> list[Any]:
    """Return the values inside a module, a container, an object of the user, or a function."""
    if isinstance(value, nn.Module):
        return list(vars(value).values())
    if isinstance(value, Tensor):
        return [vars(value), value.grad if value.is_leaf else None]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType):
        if not is_of_user(value.__module__ or ""):
            return []
        return [*(value.__closure__ or ()), *(value.__defaults__ or ()), value.__kwdefaults__, vars(value)]
    if isinstance(value, partial):
        return [value.func, *value.args, value.keywords]
    if isinstance(value, CellType):
        return _cell_contents(value)
    contents: list[Any] = []
    if isinstance(value, dict) and len(value) <= _MOST_ENTRIES:
        contents += value.values()
    elif isinstance(value, (list, tuple, deque)) and len(value) <= _MOST_ENTRIES:
        contents += value
    if _is_holder(value):
        # The dictionary of the attributes is restored as any other.
        contents.append(_attributes(value))
    return contents


def _snapshot(value: Any) -> Restore | None:
    """Return a function that restores what a value holds. None for a value that is not restored."""
    if isinstance(value, nn.Module):
        return partial(_refill_attributes, vars(value), dict(vars(value)))
    if isinstance(value, Tensor):
        return preserved_tensor(value)
    if isinstance(value, np.ndarray):
        return partial(np.copyto, value, value.copy()) if value.flags.writeable else None
    if isinstance(value, dict):
        return partial(_refill, value, dict(value))
    if isinstance(value, (list, bytearray, array)):
        return partial(value.__setitem__, slice(None), value[:])
    if isinstance(value, deque):
        return partial(_refill_queue, value, list(value))
    if isinstance(value, MutableSet):
        return partial(_refill_set, value, set(value))
    if isinstance(value, CellType):
        return partial(_refill_cell, value, _cell_contents(value))
    return _generator(value)


def _is_holder(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, type) or not (kind in _HOLDERS or is_of_user(kind.__module__)):
        return False
    # Another thread may change it at any time.
    return not any(isinstance(entry, _OF_THREADS) for entry in (_attributes(value) or {}).values())


def _attributes(value: object) -> dict[str, Any] | None:
    try:
        # A class of the user may answer with another dictionary, or compute something.
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return attributes if isinstance(attributes, dict) else None


def _slots(value: object) -> list[tuple[MemberDescriptorType, tuple[Any, ...]]]:
    """Return the slots of an object of the user, each with its value, or with nothing if it is not set."""
    if not _is_holder(value):
        return []
    slots: list[tuple[MemberDescriptorType, tuple[Any, ...]]] = []
    for kind in type(value).__mro__:
        for slot in vars(kind).values() if "__slots__" in vars(kind) else ():
            if isinstance(slot, MemberDescriptorType):
                try:
                    slots.append((slot, (slot.__get__(value, type(value)),)))
                except AttributeError:
                    slots.append((slot, ()))
    return slots


def _cell_contents(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # an empty cell
        return []


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


def _refill_attributes(values: dict[str, Any], entries: dict[str, Any]) -> None:
    for name in values.keys() - entries.keys():
        del values[name]
    values.update(entries)


def _refill(values: dict[Any, Any], entries: dict[Any, Any]) -> None:
    pairs = zip(values.items(), entries.items(), strict=False)
    if len(values) == len(entries) and all(key is name and value is entry for (key, value), (name, entry) in pairs):
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


def _refill_slot(value: object, slot: MemberDescriptorType, *entry: Any) -> None:
    if entry:
        slot.__set__(value, entry[0])
    else:
        with suppress(AttributeError):  # it is still not set
            slot.__delete__(value)


def _refill_cell(cell: CellType, entries: list[Any]) -> None:
    if entries:
        cell.cell_contents = entries[0]
    elif _cell_contents(cell):
        del cell.cell_contents
