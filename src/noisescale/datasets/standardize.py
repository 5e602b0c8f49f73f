"""Shift and scale inputs by one mean and one standard deviation per channel, measured on the training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noisescale.datasets.dataset import Array
from noisescale.errors import BadInput


@dataclass(frozen=True, eq=False)
class ChannelScale:
    """Mean and standard deviation of each channel, float64 [C]; C = 1 for vectors."""

    mean: Array
    std: Array


def measure_channels(x_train: Array, name: str) -> ChannelScale:
    """Measure each channel's mean and standard deviation over examples and positions.

    Args:
        x_train: Vectors [N, D], taken as one channel, or inputs [N, C, …] with positions.
        name: The data set's name for the message.

    Raises:
        BadInput: A channel is constant, or so large that its standard deviation is not finite.
    """
    x_channels = _by_channel(x_train)
    # Not from the standard deviation: that of equal values can come out as a rounding error instead of zero.
    constant = x_channels.min(axis=(0, 2)) == x_channels.max(axis=(0, 2))
    if constant.any():
        where = f"channel {int(constant.argmax())} is" if x_train.ndim > 2 else "all entries are"
        raise BadInput(f"{name} x_train", "inputs must vary, or they cannot be standardized", f"{where} constant")
    channels = range(x_channels.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        # Channel by channel, so that the float64 temporaries stay small beside a set of images.
        mean = np.array([x_channels[:, c].mean(dtype=np.float64) for c in channels])
        std = np.array([x_channels[:, c].std(dtype=np.float64) for c in channels])
    if not (np.isfinite(std).all() and (std > 0).all()):
        raise BadInput(f"{name} x_train", "each channel must have a positive, finite standard deviation", std.tolist())
    return ChannelScale(mean, std)


def leave_channels(x_train: Array) -> ChannelScale:
    """Return the scale that leaves inputs unchanged.

    Args:
        x_train: Vectors [N, D], taken as one channel, or inputs [N, C, …] with positions.
    """
    channels = _by_channel(x_train).shape[1]
    return ChannelScale(np.zeros(channels), np.ones(channels))


def standardize(x: Array, scale: ChannelScale, name: str) -> Array:
    """Return (x - mean) / std per channel as float32, of the shape of `x`.

    Args:
        x: Vectors [N, D] or inputs [N, C, …] with positions.
        scale: The training set's mean and standard deviation per channel.
        name: The array's name for the message.

    Raises:
        BadInput: An entry overflows float32.
    """
    x_channels = _by_channel(x)
    standardized = np.empty(x_channels.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for c, (mean, std) in enumerate(zip(scale.mean, scale.std, strict=True)):
            standardized[:, c] = (x_channels[:, c].astype(np.float64) - mean) / std
    overflowed = int((~np.isfinite(standardized)).sum())
    if overflowed:
        raise BadInput(name, "standardized entries must fit float32", f"{overflowed} of {x.size} do not")
    return standardized.reshape(x.shape)


def _by_channel(x: Array) -> Array:
    """View inputs as [N, C, positions]."""
    channels = x.shape[1] if x.ndim > 2 else 1
    return x.reshape(len(x), channels, int(np.prod(x.shape[1:])) // channels)
