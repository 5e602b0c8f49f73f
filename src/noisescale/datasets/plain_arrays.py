"""Converts arrays, tensors and DataFrames to numpy arrays of real numbers, and names what cannot be converted."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from noisescale.datasets.dataset import Array
from noisescale.datasets.memory_map import in_chunks, is_mapped
from noisescale.errors import BadInput


def real_array(value: object, name: str) -> Array:
    """Convert an array, a tensor, a DataFrame or a Series to a numpy array.

    Args:
        value: The value.
        name: Its name, for messages.

    Returns:
        An array of booleans, whole numbers or finite numbers.

    Raises:
        BadInput: The value is of another type, or has masked, missing, infinite or complex entries.
    """
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
        check_finite(value, name)
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


def column_names(value: Any) -> list[str] | None:
    """Return the names of the columns of a DataFrame, as texts. None for an array.

    Args:
        value: A DataFrame, or any other value.
    """
    columns = getattr(value, "columns", None) if hasattr(value, "to_numpy") else None
    return None if columns is None else [str(column) for column in columns]


def check_columns(name: str, key: str, train: list[str] | None, test: list[str] | None) -> None:
    """Check that two DataFrames have the same columns, because columns are taken by their position.

    Args:
        name: The data set's name, for messages.
        key: "x" or "y".
        train: Names of the columns of the training set. None for an array.
        test: Names of the columns of the test set. None for an array.

    Raises:
        BadInput: A name or its position differs.
    """
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


def check_finite(array: Array, name: str) -> None:
    """Check that an array of a floating dtype has only finite entries.

    Args:
        array: The array.
        name: Its name, for messages.

    Raises:
        BadInput: Entries are NaN or infinite. The message counts them.
    """
    nan = infinite = 0
    # An array in memory is checked as a whole: a view may claim a size that no memory holds, and parts have no end.
    for part in in_chunks(array) if is_mapped(array) else (array,):
        nan, infinite = nan + int(np.isnan(part).sum()), infinite + int(np.isinf(part).sum())
    if nan or infinite:
        got = f"{nan} NaN and {infinite} infinite of {array.size} entries"
        raise BadInput(name, f"must contain only finite {array.dtype} numbers", got)
