"""Reads torch data sets and loaders into arrays, once.

Items are pairs `(input, target)`, or dicts with a target. An input may be a dict of several arrays. Items are stacked,
or put together by the collate function of a loader, which may pad them. The arrays are stored in files that are mapped
into memory.

A random transform would give other inputs in each epoch, and arrays keep only one of them. So the first items are read
twice, and must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from noisescale.datasets.dataset import Array
from noisescale.datasets.memory_map import RowWriter, store_rows
from noisescale.datasets.named_arrays import NamedArrays
from noisescale.datasets.plain_arrays import real_array
from noisescale.datasets.torch_loaders import Collate, Items, items_of
from noisescale.errors import BadInput, one_line

# Names of the target in an item that is a dict, as libraries use them.
TARGET_NAMES = ("target", "targets", "label", "labels", "y")

# Number of items that are read twice. A transform that changes half of its items escapes with probability 2^-32.
_TWICE = 32


Parts = tuple[Array | NamedArrays, Array, Array | NamedArrays, Array]

# The input and the target of an item, or of all items: ("input",) or ("input", name), and ("target",).
_Key = tuple[str, ...]


def read_torch_data(name: str, train: Any, test: Any) -> tuple[Parts, tuple[str, ...]]:
    """Read the items of a training and a test set.

    Args:
        name: Name of the user's function, for messages.
        train: A torch data set or a loader.
        test: Another one.

    Returns:
        The arrays x_train, y_train, x_test and y_test, and notes about what of the loaders is not used.

    Raises:
        BadInput: A set has no length or raises an error, items differ when they are read again or in their shapes, or
            are no pairs of arrays.
    """
    parts = items_of(train, f"{name} train"), items_of(test, f"{name} test")
    for items in parts:
        _check_repeatable(items)
    first, second = parts
    if first.collate is not None and first.collate == second.collate:
        # Padded together, so that training and test inputs have the same length.
        arrays = _collated([*_counted(first), *_counted(second)], first.collate, f"{name} train and test")
        cut = len(first)
        train_arrays, test_arrays = (
            {key: store_rows([array[part]], array[part].shape, array.dtype) for key, array in arrays.items()}
            for part in (slice(0, cut), slice(cut, None))
        )
    else:
        train_arrays, test_arrays = _read(first), _read(second)
        _check_padding(first, second, train_arrays, test_arrays)
    return (*_pair(train_arrays), *_pair(test_arrays)), (*first.notes, *second.notes)


def _check_padding(
    first: Items, second: Items, train_arrays: Mapping[_Key, Array], test_arrays: Mapping[_Key, Array]
) -> None:
    """Check that two collate functions pad to the same length. One function for both pads them together."""
    if first.collate is None or second.collate is None:
        return
    for key in train_arrays.keys() & test_arrays.keys():
        expected, got = (list(arrays[key].shape[1:]) for arrays in (train_arrays, test_arrays))
        if got != expected:
            required = f"items of the shape of the training items, {expected}: one collate function for both pads alike"
            raise BadInput(second.name, required, got)


def _pair(arrays: dict[_Key, Array]) -> tuple[Array | NamedArrays, Array]:
    """Return the inputs, by name if they have names, and the targets."""
    named = {key[1]: array for key, array in arrays.items() if len(key) > 1}
    return named or arrays["input",], arrays["target",]


def _entries(item: Any, name: str) -> dict[_Key, Any]:
    """Return the arrays of an item, or of a batch, by what they are."""
    inputs, target = pair_of(item, name)
    if not isinstance(inputs, Mapping):
        return {("input",): inputs, ("target",): target}
    if not inputs:
        raise BadInput(name, "inputs with at least one entry", "an empty dict")
    return {**{("input", str(key)): inputs[key] for key in inputs}, ("target",): target}


def _check_repeatable(items: Items) -> None:
    """Read some items twice, collate the first of them twice, and compare."""
    readings = []
    for _ in range(2):
        some = items.some(_TWICE)
        named = {f"item {index}": item for index, item in some.items()}
        if items.collate is not None:
            first = [some[index] for index in range(min(_TWICE, len(some)))]
            named["batch from the collate function"] = _collate(first, items.collate, items.name)
        readings.append({what: _leaves(value) for what, value in named.items()})
    for what in readings[0] | readings[1]:
        item, again = (reading.get(what) for reading in readings)
        if item is None or again is None or len(item) != len(again) or not all(map(_equal, item, again)):
            required = (
                "the same items at every reading. A random transform would be used once and not in each epoch: remove "
                "it, or use training.augmentation"
            )
            raise BadInput(items.name, required, f"another {what} at the second reading")


def pair_of(item: Any, name: str) -> tuple[Any, Any]:
    """Return the input and the target of an item, or of a batch that a collate function returned.

    Args:
        item: A pair, or a dict with a target and one input or several.
        name: Name of the data set, for messages.

    Raises:
        BadInput: The item is neither.
    """
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    got = f"a {type(item).__name__}"
    if isinstance(item, Mapping):
        targets = [key for key in item if key in TARGET_NAMES]
        inputs = [key for key in item if key not in TARGET_NAMES]
        if len(targets) == 1 and inputs:
            return item[inputs[0]] if len(inputs) == 1 else {key: item[key] for key in inputs}, item[targets[0]]
        got = f"a dict of {', '.join(map(repr, item))}"
    elif isinstance(item, tuple | list):
        got = f"{len(item)} values"
    names = " or ".join(map(repr, TARGET_NAMES))
    raise BadInput(name, f"items (input, target), or dicts of inputs and one target named {names}", got)


def _leaves(value: Any) -> list[Any]:
    """List the arrays and numbers in nested containers."""
    if isinstance(value, Mapping):
        return [leaf for key in value for leaf in _leaves(value[key])]
    if isinstance(value, tuple | list):
        return [leaf for entry in value for leaf in _leaves(entry)]
    return [value.clone() if isinstance(value, torch.Tensor) else np.array(value)]


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor):
        tensors = isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor) and left.shape == right.shape
        return tensors and bool(((left == right) | ((left != left) & (right != right))).all())  # NaN equals NaN
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


def _read(items: Items) -> dict[_Key, Array]:
    """Return the inputs [N, …] and the targets [N, …] of all items."""
    if items.collate is not None:
        arrays = _collated(list(_counted(items)), items.collate, items.name)
        return {key: store_rows([array], array.shape, array.dtype) for key, array in arrays.items()}
    if type(items.data) is TensorDataset and len(items.data.tensors) == 2:
        # Read as a whole, because a million items take a minute.
        whole = dict(zip((("input",), ("target",)), items.data.tensors, strict=True))
        arrays = {key: _plain(tensor, items.name) for key, tensor in whole.items()}
        return {key: store_rows([array], array.shape, array.dtype) for key, array in arrays.items()}
    entries = (_entries(item, items.name) for item in _counted(items))
    first = next(entries)
    rows = {key: _plain(value, f"{items.name}, item 0") for key, value in first.items()}
    with ExitStack() as stack:
        writers = {
            key: stack.enter_context(RowWriter((len(items), *row.shape), row.dtype)) for key, row in rows.items()
        }
        for count, values in enumerate(chain([first], entries)):
            place = f"{items.name}, item {count}"
            if values.keys() != rows.keys():
                raise BadInput(place, f"the entries of item 0, {_named(rows)}", _named(values))
            for key, row in rows.items():
                array = _plain(values[key], place)
                if array.shape != row.shape or array.dtype != row.dtype:
                    required = "the shape and dtype of item 0; a DataLoader with a collate function may pad items"
                    got = f"{array.dtype} of shape {list(array.shape)}, and {row.dtype} of {list(row.shape)} in item 0"
                    raise BadInput(" ".join([place, *map(repr, key[1:])]), required, got)
                writers[key].append(array[None])
        return {key: writer.finish() for key, writer in writers.items()}


def _named(entries: Mapping[_Key, Any]) -> str:
    return ", ".join(repr(key[-1]) for key in entries)


def _counted(items: Items) -> Iterator[Any]:
    """Yield the items, as many as the length of the data set states."""
    count, required = 0, f"as many items as its length states, {len(items)}"
    for item in items:
        count += 1
        if count > len(items):
            raise BadInput(items.name, required, "more")
        yield item
    if count < len(items):
        raise BadInput(items.name, required, count)


def _collated(items: list[Any], collate: Collate, name: str) -> dict[_Key, Array]:
    """Return the inputs and the targets of all items, put together by the user's function."""
    entries = _entries(_collate(items, collate, name), name)
    arrays = {key: _plain(value, f"{name}, after the collate function") for key, value in entries.items()}
    for array in arrays.values():
        if array.shape[:1] != (len(items),):
            required = f"arrays with the {len(items)} items along the first axis, from the collate function"
            raise BadInput(name, required, f"shape {list(array.shape)}")
    return arrays


def _collate(items: list[Any], collate: Collate, name: str) -> Any:
    try:
        return collate(items)
    except Exception as error:  # a user's function may raise anything
        required = f"a collate function that takes {len(items)} items at once"
        raise BadInput(name, required, one_line(error)) from error


def _plain(value: Any, name: str) -> Array:
    """Return a number, a list of numbers, an array or a tensor as an array of a dtype that torch can store."""
    if isinstance(value, bool | int | float | np.generic | list | tuple):
        try:
            value = np.asarray(value)
        except ValueError as error:  # a ragged list
            raise BadInput(name, "lists of equal lengths", one_line(error)) from error
    array = real_array(value, name)
    # torch has no operations on unsigned numbers of more than 8 bits.
    return array.astype(np.int64) if array.dtype.kind == "u" and array.dtype != np.uint8 else array
