"""Checks a user's targets: class labels of examples or of tokens, real numbers, or several labels of 0 and 1."""

from __future__ import annotations

import numpy as np

from noisescale.datasets.dataset import Array
from noisescale.datasets.plain_arrays import check_finite, real_array
from noisescale.datasets.tokens import as_integers
from noisescale.errors import BadInput

# The label that torch's cross-entropy ignores if it is not told another.
HIDDEN = -100


def read_targets(
    value: object, name: str, examples: int, lengths: tuple[int, ...], *, multi_label: bool = False
) -> Array:
    """Return targets as labels in int64, shape [N] or [N, T], or as real-valued targets in float32, shape [N, K].

    Args:
        value: An array, a tensor, a DataFrame or a Series.
        name: Its name, for messages.
        examples: N, the number of inputs.
        lengths: The values that T may have. Empty if inputs have no positions.
        multi_label: Whether targets are 0 or 1 for each of K labels.

    Raises:
        BadInput: The dtype, the shape or the length is wrong, labels do not fit 64 bits or are hidden by several
            negative numbers, entries are not finite in float32, or several labels are not 0 or 1.
    """
    array = real_array(value, name)
    if multi_label:
        return _zeros_and_ones(array, name, examples)
    is_real = array.dtype.kind == "f"
    if is_real and array.ndim == 1:
        array = array[:, None]
    of_tokens = not is_real and array.ndim == 2 and array.shape[1] in lengths
    if not (of_tokens or array.ndim == (2 if is_real else 1)) or array.shape[1:] == (0,):
        tokens = f", integer labels of each of T = {' or '.join(map(str, lengths))} positions [N, T]" if lengths else ""
        required = f"must be integer labels of shape [N]{tokens} or real-valued targets of shape [N] or [N, K]"
        hint = "; for several labels of 0 and 1 set dataset.multi_label" if array.ndim == 2 else ""
        raise BadInput(name, required + hint, f"{array.dtype} of shape {list(array.shape)}")
    _check_length(array, name, examples)
    if is_real:
        return _as_float32(array, name)
    if (largest := int(array.max())) > np.iinfo(np.int64).max:
        raise BadInput(name, "labels must be 0 to K - 1", f"a largest label of {largest}")
    return as_integers(array)


def _zeros_and_ones(array: Array, name: str, examples: int) -> Array:
    if array.ndim not in (1, 2) or array.shape[1:] == (0,):
        required = "must be 0 or 1 for each label, shape [N] or [N, K], where dataset.multi_label is true"
        raise BadInput(name, required, f"{array.dtype} of shape {list(array.shape)}")
    _check_length(array, name, examples)
    others = array[(array != 0) & (array != 1)]
    if others.size:
        required = "must be 0 or 1 for each label, where dataset.multi_label is true"
        raise BadInput(name, required, f"{others.size} other entries, such as {others[0]}")
    return array.reshape(len(array), -1).astype(np.float32)


def _check_length(array: Array, name: str, examples: int) -> None:
    if len(array) != examples:
        raise BadInput(name, f"must be as long as its inputs, {examples}", len(array))


def _as_float32(array: Array, name: str) -> Array:
    with np.errstate(over="ignore"):
        targets = array.astype(np.float32)
    check_finite(targets, name)
    return targets


def count_classes(name: str, y_train: Array, y_test: Array) -> int:
    """Return the number of classes K, the largest label + 1.

    Labels of tokens may be hidden by a negative number, the same everywhere, which the loss must ignore. Those of
    examples may be hidden by torch's number.

    Args:
        name: The data set's name, for messages.
        y_train: Training labels [N] or [N, T].
        y_test: Test labels, of the same kind.

    Raises:
        BadInput: Labels are negative, all labels are hidden, or there are fewer than 2 classes or more than labels.
    """
    smallest = min(int(y_train.min()), int(y_test.min()))
    for part, labels in (("y_train", y_train), ("y_test", y_test)):
        negative = labels[labels < 0]
        if labels.ndim == 1 and (negative != HIDDEN).any():
            got = f"{negative.size} negative labels, the smallest {int(negative.min())}"
            required = f"labels must be 0 to K - 1, or {HIDDEN} where training.ignore_index is {HIDDEN}"
            raise BadInput(f"{name} {part}", required, got)
        if (negative != smallest).any():
            required = "labels of tokens must be 0 to K - 1, or the same negative number where the loss ignores them"
            raise BadInput(f"{name} {part}", required, f"{int(negative.max())} and {smallest}")
        if negative.size == labels.size:
            raise BadInput(f"{name} {part}", "at least one label must be 0 or above", f"only {smallest}")
    classes = int(max(y_train.max(), y_test.max())) + 1
    examples = y_train.size + y_test.size
    if not 2 <= classes <= examples:
        counted = "examples" if y_train.ndim == 1 else "labels"
        required = f"labels must be 0 to K - 1, with K at least 2 and at most the number of {counted}, {examples}"
        raise BadInput(f"{name} y_train, y_test", required, f"a largest label of {classes - 1}")
    return classes


def target_kind(y: Array) -> str:
    """Describe the kind of targets, in words. Two sets of targets are of the same kind if the words are equal.

    Args:
        y: Labels [N] or [N, T] of an integer dtype, or targets [N, K] of a floating dtype.
    """
    if y.dtype.kind == "f":
        return f"real-valued targets of {y.shape[1]} columns"
    return "class labels" if y.ndim == 1 else f"class labels of {y.shape[1]} tokens"
