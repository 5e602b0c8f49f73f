"""Inputs that are several arrays by name: tokens with a mask, columns of numbers beside categories, lengths.

Real numbers are standardized, each array by itself. Whole numbers and booleans stay as they are. Whole numbers [N, T]
are tokens by the rule for a single array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from noisescale.datasets.dataset import Array, DatasetOptions
from noisescale.datasets.plain_arrays import check_columns, column_names, real_array
from noisescale.datasets.tokens import as_integers, check_tokens, may_be_tokens, vocabulary_for
from noisescale.errors import BadInput
from noisescale.input_shapes import FLAGS, NUMBERS, WHOLE, NamedShapes, TokenShape

NamedArrays = dict[str, Array]


def read_named(
    name: str, x_train: object, x_test: object, options: DatasetOptions
) -> tuple[NamedArrays, NamedArrays, NamedShapes]:
    """Check inputs by name.

    Args:
        name: Name of the user's function, for messages.
        x_train: Training inputs: arrays, tensors or DataFrames by name, with the examples along the first axis.
        x_test: Test inputs with the same names.
        options: The options of the data set.

    Returns:
        The training arrays, the test arrays and the shapes of one example.

    Raises:
        BadInput: Only one part has names, or names, lengths, shapes or kinds differ, or an array cannot be used, or a
            vocabulary is stated, which would not say for which array.
    """
    if options.vocabulary is not None:
        raise BadInput("dataset.vocabulary", "not given for inputs by name", options.vocabulary)
    parts = {
        f"{name} x_train": _arrays(x_train, f"{name} x_train"),
        f"{name} x_test": _arrays(x_test, f"{name} x_test"),
    }
    (train_name, train), (test_name, test) = parts.items()
    if train.keys() != test.keys():
        raise BadInput(test_name, f"the names of x_train, {_listed(train)}", _listed(test))
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, str] = {}
    arrays: dict[str, NamedArrays] = {train_name: {}, test_name: {}}
    for key in train:
        columns = column_names(_entry(x_train, key)), column_names(_entry(x_test, key))
        check_columns(f"{name} {key!r}", "x", *columns)
        first, second = train[key], test[key]
        shape = tuple(map(int, first.shape[1:]))
        if second.shape[1:] != first.shape[1:]:
            required = f"examples must have the same shape as in x_train, {list(shape)}"
            raise BadInput(f"{test_name} {key!r}", required, list(second.shape[1:]))
        if _kind(first) != _kind(second):
            raise BadInput(f"{test_name} {key!r}", f"{_kind(first)}, as in x_train", _kind(second))
        shapes[key], kinds[key] = shape, _kind(first)
        is_tabular = any(names is not None for names in columns)
        if not is_tabular and may_be_tokens(first) and may_be_tokens(second):
            vocabulary = vocabulary_for(f"{name} {key!r}", first, second)
            for part, tokens in ((train_name, first), (test_name, second)):
                check_tokens(tokens, vocabulary, f"{part} {key!r}")
            shapes[key] = TokenShape(shape, vocabulary)
        for part, array in ((train_name, first), (test_name, second)):
            arrays[part][key] = as_integers(array) if kinds[key] == WHOLE else array
    return arrays[train_name], arrays[test_name], NamedShapes(shapes, kinds)


def positions_of(shapes: NamedShapes) -> tuple[int, ...]:
    """Return the numbers of positions that labels of tokens may have.

    Args:
        shapes: The shapes of one example.
    """
    lengths = [shape[0] for shape in shapes.values() if isinstance(shape, TokenShape)]
    return tuple(dict.fromkeys([*lengths, *(side for shape in shapes.values() if len(shape) == 2 for side in shape)]))


def _entry(value: Any, key: str) -> object:
    return value[key]


def _arrays(value: object, name: str) -> NamedArrays:
    if not isinstance(value, Mapping):
        raise BadInput(name, "inputs by name, because those of the other part are", f"a {type(value).__name__}")
    if not value or not all(isinstance(key, str) for key in value):
        raise BadInput(name, "at least one array, with texts as names", _listed(value))
    arrays = {key: real_array(value[key], f"{name} {key!r}") for key in value}
    examples: int | None = None
    for key, array in arrays.items():
        if not array.ndim or 0 in array.shape:
            required = "the examples along the first axis, at least one, and no empty axis"
            raise BadInput(f"{name} {key!r}", required, f"shape {list(array.shape)}")
        if examples is not None and len(array) != examples:
            required = f"as many examples as {next(iter(arrays))!r}, {examples}"
            raise BadInput(f"{name} {key!r}", required, len(array))
        examples = len(array)
    return arrays


def _kind(array: Array) -> str:
    return {"f": NUMBERS, "b": FLAGS}.get(array.dtype.kind, WHOLE)


def _listed(value: Mapping[Any, object]) -> str:
    return ", ".join(map(repr, value)) or "none"


def rows(arrays: Array | NamedArrays, index: Array | slice) -> Array | NamedArrays:
    """Return some examples.

    Args:
        arrays: Inputs [N, …], or several by name.
        index: Numbers of the examples, or a slice.
    """
    if isinstance(arrays, np.ndarray):
        return arrays[index]
    return {name: array[index] for name, array in arrays.items()}
