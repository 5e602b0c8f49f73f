"""The noise scale of SGD, in the conventions of the papers, and its inverses."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# One number, or one a run: the formula is the same.
Number = TypeVar("Number", float, NDArray[np.float64], pd.Series)


def noise_per_rate(
    batch_size: Number, train_size: Number | float, momentum: Number | float = 0.0, *, replacement: bool = False
) -> Number:
    """Noise scale per learning rate, g/ε = (N/B − 1)/(1 − m), or N/(B(1 − m)) where batches are drawn with replacement.

    Args:
        batch_size: B, examples; a number or an array.
        train_size: N, examples.
        momentum: m, in [0, 1).
        replacement: whether batches are drawn with replacement.

    Returns:
        g/ε, in examples.

    Source: Smith, Le 2018; Park, Sohl-Dickstein, Le, Smith 2019, section 2.
    """
    return (train_size / batch_size - (0.0 if replacement else 1.0)) / (1 - momentum)


def noise_scale(
    learning_rate: float, batch_size: float, train_size: float, momentum: float = 0.0, *, replacement: bool = False
) -> float:
    """g = ε(N/B − 1)/(1 − m) for sampling without replacement, εN/(B(1 − m)) with replacement.

    Args:
        learning_rate: ε.
        batch_size: B, examples.
        train_size: N, examples.
        momentum: m, in [0, 1).
        replacement: whether batches are drawn with replacement.

    Returns:
        g, in examples.

    Source: Smith, Le 2018; Park, Sohl-Dickstein, Le, Smith 2019, section 2.
    """
    return learning_rate * noise_per_rate(batch_size, train_size, momentum, replacement=replacement)


def rate_for_noise(
    noise: float, batch_size: float, train_size: float, momentum: float = 0.0, *, replacement: bool = False
) -> float:
    """The learning rate at which the noise scale is `noise`: the inverse of `noise_scale` in ε."""
    return noise / noise_per_rate(batch_size, train_size, momentum, replacement=replacement)


def batch_for_noise(
    noise: float, learning_rate: float, train_size: float, momentum: float = 0.0, *, replacement: bool = False
) -> float:
    """The batch size, not rounded, at which the noise scale is `noise`: the inverse of `noise_scale` in B."""
    return train_size / (noise / learning_rate * (1 - momentum) + (0.0 if replacement else 1.0))
