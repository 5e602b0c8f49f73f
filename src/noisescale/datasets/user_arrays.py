"""Checks a user's arrays before anything is trained on them. Each message names the array and its fault."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from noisescale.datasets.dataset import Array, RawArrays
from noisescale.errors import BadInput


def check_arrays(name: str, x_train: object, y_train: object, x_test: object, y_test: object) -> RawArrays:
    """Check a user's arrays and return them as numpy arrays.

    Args:
        name: Name of the function that returned the arrays, for messages.
        x_train: Training inputs, vectors [N, D], signals [N, C, L] or images [N, C, H, W]: an array, a tensor or a
            DataFrame.
        y_train: Integer class labels [N], or real-valued targets [N] or [N, K].
        x_test: Test inputs.
        y_test: Test labels or targets.

    Raises:
        BadInput: An array has a wrong type, dtype, shape or length, or masked, NaN or infinite entries, or has labels
            outside 0 to K - 1, or two DataFrames have other columns or another order of them.
    """
    x_columns, y_columns = (_columns(x_train), _columns(x_test)), (_columns(y_train), _columns(y_test))
    x_train, x_test = _inputs(x_train, f"{name} x_train"), _inputs(x_test, f"{name} x_test")
    _check_columns(name, "x", *x_columns)
    if x_test.shape[1:] != x_train.shape[1:]:
        required = f"examples must have the same shape as in x_train, {list(x_train.shape[1:])}"
        raise BadInput(f"{name} x_test", required, list(x_test.shape[1:]))
    y_train = _outputs(y_train, f"{name} y_train", len(x_train))
    y_test = _outputs(y_test, f"{name} y_test", len(x_test))
    if y_train.shape[1:] != (1,):
        # The only column of targets may have another name in each frame.
        _check_columns(name, "y", *y_columns)
    if y_test.shape[1:] != y_train.shape[1:]:
        required = f"must be of the same kind as y_train, {_kind(y_train)}"
        raise BadInput(f"{name} y_test", required, _kind(y_test))
    if y_train.ndim == 2:
        return RawArrays(x_train, y_train, x_test, y_test, num_outputs=y_train.shape[1])
    return RawArrays(x_train, y_train, x_test, y_test, num_outputs=_count_classes(name, y_train, y_test))


def _inputs(value: object, name: str) -> Array:
    array = _real_array(value, name)
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        kinds = "vectors [N, D], signals [N, C, L] or images [N, C, H, W]"
        required = f"inputs must be {kinds} with at least one example and no empty axis"
        raise BadInput(name, required, f"shape {list(array.shape)}")
    return array


def _outputs(value: object, name: str, examples: int) -> Array:
    """Return labels [N] as int64, or real-valued targets [N, K] as float32."""
    array = _real_array(value, name)
    is_real = array.dtype.kind == "f"
    if is_real and array.ndim == 1:
        array = array[:, None]
    if array.ndim != (2 if is_real else 1) or array.shape[1:] == (0,):
        required = "must be integer labels of shape [N] or real-valued targets of shape [N] or [N, K]"
        raise BadInput(name, required, f"{array.dtype} of shape {list(array.shape)}")
    if len(array) != examples:
        raise BadInput(name, f"must be as long as its inputs, {examples}", len(array))
    if not is_real:
        if (largest := int(array.max())) > np.iinfo(np.int64).max:
            raise BadInput(name, "labels must be 0 to K - 1", f"a largest label of {largest}")
        return array.astype(np.int64)
    with np.errstate(over="ignore"):
        targets = array.astype(np.float32)
    _check_finite(targets, name)
    return targets


def _real_array(value: object, name: str) -> Array:
    if isinstance(value, torch.Tensor):
        value = _tensor_to_numpy(value, name)
    elif isinstance(value, np.ma.MaskedArray):
        if masked := int(np.ma.getmaskarray(value).sum()):
            raise BadInput(name, "must have no masked entries", f"{masked} masked of {value.size} entries")
        value = value.data
    elif hasattr(value, "to_numpy"):
        value = _frame_to_numpy(value, name)
    if not isinstance(value, np.ndarray):
        got = f"a {type(value).__name__}"
        raise BadInput(name, "must be a numpy array, a torch tensor, a DataFrame or a Series", got)
    # Subclasses such as np.matrix have other rules for shapes.
    value = np.asarray(value)
    if value.dtype.kind not in "biuf":
        raise BadInput(name, "must hold real numbers", f"dtype {value.dtype}")
    if value.dtype.kind == "f":
        _check_finite(value, name)
    return value


def _frame_to_numpy(frame: Any, name: str) -> Array:
    """Return the values of a DataFrame or a Series (of pandas, or of another library with `to_numpy`)."""
    array: Array = frame.to_numpy()
    if array.dtype.kind == "O":
        # Columns of several kinds become objects together, also where each holds numbers.
        names = list(getattr(frame, "columns", ()))
        by_position = getattr(frame, "iloc", None)
        columns = [] if by_position is None else [by_position[:, k].to_numpy() for k in range(len(names))]
        others = [position for position, values in enumerate(columns) if values.dtype.kind not in "biuf"]
        if others or not columns:
            column = f"column {str(names[others[0]])!r} of dtype {columns[others[0]].dtype}" if others else ""
            raise BadInput(name, "must hold real numbers, without missing entries", column or f"dtype {array.dtype}")
        array = np.stack([values.astype(np.float64) for values in columns], axis=1)
    return array


def _columns(value: Any) -> list[str] | None:
    """Return the names of the columns of a DataFrame, as texts. None for an array."""
    columns = getattr(value, "columns", None) if hasattr(value, "to_numpy") else None
    return None if columns is None else [str(column) for column in columns]


def _check_columns(name: str, key: str, train: list[str] | None, test: list[str] | None) -> None:
    """Check that two DataFrames have the same columns, because columns are taken by their position."""
    if train is None or test is None or train == test:
        return
    for place, (column, other) in enumerate(zip_longest(train, test), 1):
        if column != other:
            required = f"must have the columns of {key}_train in the same order"
            at_train, at_test = ("no column" if text is None else repr(text) for text in (column, other))
            raise BadInput(
                f"{name} {key}_test", required, f"{at_test} at position {place}, and {at_train} in {key}_train"
            )


def _tensor_to_numpy(tensor: torch.Tensor, name: str) -> Array:
    if tensor.dtype == torch.bfloat16:  # numpy has no bfloat16
        tensor = tensor.float()
    try:
        array: Array = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:
        required = "must be a dense tensor of real numbers"
        raise BadInput(name, required, f"{tensor.dtype}, {tensor.layout}") from error
    return array


def _check_finite(array: Array, name: str) -> None:
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    if nan or infinite:
        got = f"{nan} NaN and {infinite} infinite of {array.size} entries"
        raise BadInput(name, f"must contain only finite {array.dtype} numbers", got)


def _count_classes(name: str, y_train: Array, y_test: Array) -> int:
    for array_name, labels in (("y_train", y_train), ("y_test", y_test)):
        if labels.min() < 0:
            got = f"{int((labels < 0).sum())} negative labels, the smallest {int(labels.min())}"
            raise BadInput(f"{name} {array_name}", "labels must be 0 to K - 1", got)
    classes = int(max(y_train.max(), y_test.max())) + 1
    examples = len(y_train) + len(y_test)
    if not 2 <= classes <= examples:
        required = f"labels must be 0 to K - 1, with K at least 2 and at most the number of examples, {examples}"
        raise BadInput(f"{name} y_train, y_test", required, f"a largest label of {classes - 1}")
    return classes


def _kind(y: Array) -> str:
    return "class labels" if y.ndim == 1 else f"real-valued targets of {y.shape[1]} columns"
