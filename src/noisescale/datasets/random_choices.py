"""The random choices about a data set: subset, validation split, label noise, each from an independent stream."""

from __future__ import annotations

import numpy as np

from noisescale.datasets.dataset import Array
from noisescale.errors import BadInput


def random_stream(data_seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose: streams of different purposes or seeds are independent.

    Args:
        data_seed: The data set's seed, 0 or larger.
        purpose: A fixed word such as `"train subset"`.
    """
    purpose_key = int.from_bytes(purpose.encode(), "little")
    return np.random.default_rng(np.random.SeedSequence(data_seed, spawn_key=(purpose_key,)))


def choose_subset(available: int, size: int | None, key: str, rng: np.random.Generator) -> Array:
    """Return the indices of `size` examples drawn without replacement; a smaller subset lies within a larger one.

    Args:
        available: Number of examples to draw from.
        size: Number of examples to draw; None for all, in their order.
        key: The option's name for the message.
        rng: The stream to draw from.

    Raises:
        BadInput: Fewer than `size` examples are available.
    """
    if size is not None and size > available:
        raise BadInput(key, f"must be at most {available}, the number of examples available", size)
    if size is None or size == available:
        return np.arange(available)
    return rng.permutation(available)[:size]


def split_validation(examples: int, fraction: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Split `round(fraction * examples)` examples off; return the indices of (training, validation) examples.

    Args:
        examples: Number of examples to split.
        fraction: Part of them, in [0, 1), that becomes the validation set.
        rng: The stream to draw from.

    Raises:
        BadInput: A positive fraction leaves no example on one of the two sides.
    """
    held_out = round(fraction * examples)
    if fraction > 0 and not 0 < held_out < examples:
        required = f"must leave at least one of {examples} examples for validation and one for training"
        raise BadInput("dataset.validation_fraction", required, fraction)
    order = rng.permutation(examples)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def redraw_labels(labels: Array, fraction: float, num_classes: int, rng: np.random.Generator) -> Array:
    """Return labels of which exactly `round(fraction * N)` are redrawn uniformly over the classes.

    A redrawn label may repeat the true one, so the expected part of wrong labels is `fraction * (K - 1) / K`.
    The labels redrawn at a smaller fraction are among those of a larger one, with the same new values.

    Args:
        labels: True class labels [N].
        fraction: Part of them, in [0, 1), to redraw.
        num_classes: K.
        rng: The stream to draw from.
    """
    order = rng.permutation(len(labels))
    redrawn = rng.integers(num_classes, size=len(labels))
    chosen = order[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = redrawn[chosen]
    return noisy
