"""Which inputs are tokens, and how many kinds of tokens there are.

Whole numbers of shape [N, T] are tokens, unless their dtype is that of bytes or of booleans, which usually hold pixels
and flags, or they are a DataFrame, whose columns have meanings of their own. `dataset.vocabulary` makes tokens of these
too. `dataset.standardize = true` or `"columns"` makes numbers of whole numbers.
"""

from __future__ import annotations

import math

import numpy as np

from noisescale.datasets.dataset import Array
from noisescale.datasets.memory_map import in_chunks, is_mapped
from noisescale.errors import BadInput

# Largest vocabulary that is counted rather than stated. Larger whole numbers are rarely tokens, and an embedding of
# them would fill the memory.
MOST_COUNTED = 2**20


def may_be_tokens(x: Array) -> bool:
    """Return whether inputs are tokens by their dtype and shape.

    Args:
        x: Inputs [N, …].
    """
    return x.ndim == 2 and x.dtype.kind in "iu" and x.dtype != np.uint8


def as_integers(array: Array) -> Array:
    """Return whole numbers in int64. Sequences that are mapped into memory keep their dtype, and stay on the disk.

    Args:
        array: Whole numbers [N] or [N, T], or booleans.
    """
    return array if array.ndim > 1 and array.dtype.kind in "iu" and is_mapped(array) else array.astype(np.int64)


def vocabulary_for(name: str, x_train: Array, x_test: Array) -> int:
    """Return the smallest vocabulary that contains all tokens, the largest token + 1.

    Args:
        name: The data set's name, for messages.
        x_train: Training inputs [N, T].
        x_test: Test inputs [N, T].

    Raises:
        BadInput: The numbers are so large that they are hardly tokens.
    """
    largest = max(int(x_train.max()), int(x_test.max()))
    if largest >= MOST_COUNTED:
        part = "x_train" if int(x_train.max()) >= MOST_COUNTED else "x_test"
        required = (
            f"whole numbers [N, T] are tokens, below {MOST_COUNTED:,} unless dataset.vocabulary states their number; "
            "dataset.standardize = true takes them as numbers"
        )
        raise BadInput(f"{name} {part}", required, f"a largest token of {largest}")
    return largest + 1


def check_tokens(tokens: Array, vocabulary: int, name: str) -> None:
    """Check that tokens lie within a vocabulary.

    Args:
        tokens: Whole numbers [N, T].
        vocabulary: V, the number of kinds.
        name: The array's name, for messages.

    Raises:
        BadInput: A token is negative, or V or larger.
    """
    lowest, largest = int(tokens.min()), int(tokens.max())
    if lowest < 0 or largest >= vocabulary:
        required = (
            f"tokens must be 0 to V - 1, with a vocabulary V = {vocabulary}; dataset.standardize = true takes whole "
            "numbers as numbers"
        )
        raise BadInput(name, required, f"a token {lowest if lowest < 0 else largest}")


def continues(tokens: Array, targets: Array) -> bool:
    """Return whether targets are the next tokens of their inputs, so that a model predicts tokens.

    Args:
        tokens: Tokens [N, T].
        targets: Labels of each token [N, T], negative where a token has no label; or other targets.
    """
    if tokens.shape != targets.shape or tokens.shape[1] < 2:
        return False
    return all(
        bool(((following == label) | (label < 0)).all())
        for following, label in zip(in_chunks(tokens[:, 1:]), in_chunks(targets[:, :-1]), strict=True)
    )


def largest_share(labels: Array, classes: int) -> float:
    """Return the share of the most frequent class among all labels; NaN without any.

    Args:
        labels: Labels of any shape, negative where there is none. A memory map is read in parts.
        classes: K, the number of classes.
    """
    counts = np.zeros(classes, dtype=np.int64)
    for chunk in in_chunks(labels):
        flat = chunk.reshape(-1)
        counts += np.bincount(flat[flat >= 0] if flat.dtype.kind == "i" else flat, minlength=classes)
    return float(counts.max() / counts.sum()) if counts.any() else math.nan
