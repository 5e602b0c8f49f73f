"""Which examples of a source are for training, for validation and for the test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noisescale.datasets.dataset import Array, DatasetOptions, RawArrays
from noisescale.datasets.random_choices import (
    check_size,
    choose_subset,
    random_stream,
    split_validation,
    validation_size,
)


@dataclass(frozen=True, eq=False)
class Parts:
    """The examples of each part.

    Args:
        train: Examples to train on, of the source's training examples: their indices, or a slice, which copies nothing.
        validation: Examples of the validation set, of the source's training examples.
        test: Examples of the test set, of the source's test examples.
    """

    train: Array | slice
    validation: Array | slice
    test: Array | slice


def choose_parts(raw: RawArrays, options: DatasetOptions) -> Parts:
    """Choose the examples of each part, at random by the seed of the data, or by position.

    Args:
        raw: The arrays of the source.
        options: The sizes, the share of the validation set, and the seed.

    Raises:
        BadInput: A size is larger than the source, or a part would be empty.
    """
    train_key, test_key = "dataset.train_size", "dataset.test_size"
    if raw.consecutive:
        size = check_size(len(raw.y_train), options.train_size, train_key)
        end = size - validation_size(size, options.validation_fraction)
        return Parts(
            slice(0, end), slice(end, size), slice(0, check_size(len(raw.y_test), options.test_size, test_key))
        )

    def stream(purpose: str) -> np.random.Generator:
        return random_stream(options.data_seed, purpose)

    subset = choose_subset(len(raw.y_train), options.train_size, train_key, stream("train subset"))
    test = choose_subset(len(raw.y_test), options.test_size, test_key, stream("test subset"))
    remaining, held_out = split_validation(len(subset), options.validation_fraction, stream("validation split"))
    if len(held_out) == 0:
        return Parts(_as_slice(subset), slice(0, 0), _as_slice(test))
    return Parts(subset[remaining], subset[held_out], _as_slice(test))


def _as_slice(index: Array) -> Array | slice:
    """Return the slice of the first examples if the indices are these in their order: it copies nothing."""
    return slice(0, len(index)) if np.array_equal(index, np.arange(len(index))) else index
