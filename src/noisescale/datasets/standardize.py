"""Shifts and scales inputs by the mean and the standard deviation of each channel, or column, of the training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noisescale.datasets.dataset import Array
from noisescale.datasets.memory_map import in_chunks, is_mapped, store_rows
from noisescale.errors import BadInput


@dataclass(frozen=True, eq=False)
class Scale:
    """The mean and the standard deviation of each channel, float64 of shape [C].

    Vectors [N, D] have C = 1 if all entries share the scale, and C = D if each column has its own.
    """

    mean: Array
    std: Array


def measure_channels(x_train: Array, name: str) -> Scale:
    """Measure each channel's mean and standard deviation over examples and positions.

    Args:
        x_train: Vectors [N, D], which count as one channel, or inputs [N, C, …] with positions.
        name: The data set's name, for messages.

    Raises:
        BadInput: A channel is constant, or so large that its standard deviation is not finite.
    """
    x_channels = _by_channel(x_train)
    # Compare extreme values, because the computed standard deviation of equal values can be a rounding error above
    # zero.
    constant = x_channels.min(axis=(0, 2)) == x_channels.max(axis=(0, 2))
    if constant.any():
        where = f"channel {int(constant.argmax())} is" if x_train.ndim > 2 else "all entries are"
        raise BadInput(f"{name} x_train", "inputs must vary, or they cannot be standardized", f"{where} constant")
    channels = range(x_channels.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        # One channel after another, so that the float64 copies need little memory compared with the images.
        moments = [_moments(x_channels[:, c]) for c in channels]
        mean, std = (np.array(values) for values in zip(*moments, strict=True))
    if not (np.isfinite(std).all() and (std > 0).all()):
        raise BadInput(f"{name} x_train", "each channel must have a positive, finite standard deviation", std.tolist())
    return Scale(mean, std)


def measure_columns(x_train: Array, name: str) -> Scale:
    """Measure each column's mean and standard deviation over examples. A constant column becomes 0.

    Args:
        x_train: Vectors [N, D].
        name: The data set's name, for messages.

    Raises:
        BadInput: Inputs are not vectors, or a column is so large that its standard deviation is not finite.
    """
    if x_train.ndim != 2:
        required = "true or false, for inputs that are not vectors [N, D]"
        raise BadInput("dataset.standardize", required, f"'columns' for shape {list(x_train.shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = x_train.mean(axis=0, dtype=np.float64), x_train.std(axis=0, dtype=np.float64)
    std[x_train.min(axis=0) == x_train.max(axis=0)] = 1.0
    if not (np.isfinite(std).all() and (std > 0).all()):
        column = int((~(np.isfinite(std) & (std > 0))).argmax())
        got = f"{std[column]:g} in column {column}"
        raise BadInput(f"{name} x_train", "each column must have a positive, finite standard deviation", got)
    return Scale(mean, std)


def leave_channels(x_train: Array) -> Scale:
    """Return the scale that leaves inputs unchanged.

    Args:
        x_train: Vectors [N, D], which count as one channel, or inputs [N, C, …] with positions.
    """
    channels = _by_channel(x_train).shape[1]
    return Scale(np.zeros(channels), np.ones(channels))


def standardize(x: Array, scale: Scale, name: str) -> Array:
    """Return (x - mean) / std of each channel as float32, in the shape of `x`.

    Args:
        x: Vectors [N, D] or inputs [N, C, …] with positions.
        scale: The mean and the standard deviation of each channel of the training set.
        name: The array's name, for messages.

    Raises:
        BadInput: An entry overflows float32.
    """
    x_channels = _by_channel(x, len(scale.mean))
    if len(x) and is_mapped(x):
        # Also the result may be larger than the memory, and all workers share it.
        parts = (_standardized(part, scale) for part in in_chunks(x_channels))
        standardized = store_rows(parts, x_channels.shape, np.dtype(np.float32))
    else:
        standardized = _standardized(x_channels, scale)
    overflowed = sum(int((~np.isfinite(part)).sum()) for part in in_chunks(standardized))
    if overflowed:
        raise BadInput(name, "standardized entries must fit float32", f"{overflowed} of {x.size} do not")
    return standardized.reshape(x.shape)


def _standardized(x_channels: Array, scale: Scale) -> Array:
    standardized = np.empty(x_channels.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for c, (mean, std) in enumerate(zip(scale.mean, scale.std, strict=True)):
            standardized[:, c] = (x_channels[:, c].astype(np.float64) - mean) / std
    return standardized


def _moments(x: Array) -> tuple[float, float]:
    """Return the mean and the standard deviation of all entries. A memory map is read in parts."""
    if not is_mapped(x):
        return float(x.mean(dtype=np.float64)), float(x.std(dtype=np.float64))
    mean = sum(float(part.sum(dtype=np.float64)) for part in in_chunks(x)) / x.size
    squares = sum(float(((part.astype(np.float64) - mean) ** 2).sum()) for part in in_chunks(x))
    return mean, float(np.sqrt(squares / x.size))


def _by_channel(x: Array, channels: int | None = None) -> Array:
    """View inputs as [N, C, positions]."""
    channels = channels or (x.shape[1] if x.ndim > 2 else 1)
    return x.reshape(len(x), channels, int(np.prod(x.shape[1:])) // channels)
