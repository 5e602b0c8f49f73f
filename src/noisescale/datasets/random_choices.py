"""The random choices about a data set: subset, validation split and label noise. Each has an independent stream."""

from __future__ import annotations

import numpy as np

from noisescale.datasets.dataset import Array
from noisescale.errors import BadInput


def random_stream(data_seed: int, purpose: str) -> np.random.Generator:
    """Return the random generator for one purpose. Streams of different purposes or seeds are independent.

    Args:
        data_seed: The data set's seed, 0 or larger.
        purpose: The name of the purpose, such as `"train subset"`.
    """
    purpose_key = int.from_bytes(purpose.encode(), "little")
    return np.random.default_rng(np.random.SeedSequence(data_seed, spawn_key=(purpose_key,)))


def choose_subset(available: int, size: int | None, key: str, rng: np.random.Generator) -> Array:
    """Return the indices of `size` examples drawn without replacement. A larger subset contains all smaller ones.

    Args:
        available: Number of examples to draw from.
        size: Number of examples to draw. None for all examples, in their order.
        key: The option's name, for messages.
        rng: The stream to draw from.

    Raises:
        BadInput: Fewer than `size` examples are available.
    """
    if check_size(available, size, key) == available:
        return np.arange(available)
    return rng.permutation(available)[:size]


def check_size(available: int, size: int | None, key: str) -> int:
    """Return the number of examples that are used: `size`, or all that are available.

    Args:
        available: Number of examples available.
        size: Number of examples to use. None for all examples.
        key: The option's name, for messages.

    Raises:
        BadInput: Fewer than `size` examples are available.
    """
    if size is not None and size > available:
        raise BadInput(key, f"must be at most {available}, the number of examples available", size)
    return available if size is None else size


def split_validation(examples: int, fraction: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Split off `round(fraction * examples)` examples. Return the indices of training and of validation examples.

    Args:
        examples: Number of examples to split.
        fraction: Share of the examples, in [0, 1), that becomes the validation set.
        rng: The stream to draw from.

    Raises:
        BadInput: The fraction is positive but leaves no example for validation or none for training.
    """
    held_out = validation_size(examples, fraction)
    order = rng.permutation(examples)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def validation_size(examples: int, fraction: float) -> int:
    """Return the number of examples of the validation set, `round(fraction * examples)`.

    Args:
        examples: Number of examples to split.
        fraction: Share of the examples, in [0, 1), that becomes the validation set.

    Raises:
        BadInput: The fraction is positive but leaves no example for validation or none for training.
    """
    held_out = round(fraction * examples)
    if fraction > 0 and not 0 < held_out < examples:
        required = f"must leave at least one of {examples} examples for validation and one for training"
        raise BadInput("dataset.validation_fraction", required, fraction)
    return held_out


def redraw_labels(labels: Array, fraction: float, num_classes: int, rng: np.random.Generator) -> Array:
    """Return the labels after exactly `round(fraction * N)` of them are redrawn uniformly over the classes.

    A redrawn label may equal the true label, so the expected share of wrong labels is `fraction * (K - 1) / K`. The
    labels redrawn at a smaller fraction are also redrawn at a larger fraction, with the same new values.

    Args:
        labels: True class labels, shape [N].
        fraction: Share of the labels to redraw, in [0, 1).
        num_classes: K, the number of classes.
        rng: The stream to draw from.
    """
    order = rng.permutation(len(labels))
    redrawn = rng.integers(num_classes, size=len(labels))
    chosen = order[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = redrawn[chosen]
    return noisy
