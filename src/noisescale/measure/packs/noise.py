"""Gradient noise of a pack: tr Σ of per-example gradients, |G|² and their ratio, with intervals."""

from __future__ import annotations

import torch
from torch import Tensor

from noisescale.estimate import Estimate
from noisescale.measure.packs.snapshot import Snapshot


def trace_covariance(snapshot: Snapshot) -> dict[str, Tensor]:
    """Measure tr Σ of the per-example gradient over the training set, as `gradient_noise` does.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The value and its interval by column name, shape [R] each.
    """
    return _columns("trace_covariance", [noise.trace_covariance for noise in snapshot.noise])


def gradient_noise_scale(snapshot: Snapshot) -> dict[str, Tensor]:
    """Measure |G|² and tr Σ/|G|², in examples.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The values and their intervals by column name, shape [R] each.
    """
    norms = _columns("gradient_norm_squared", [noise.gradient_norm_squared for noise in snapshot.noise])
    return norms | _columns("gradient_noise_scale", [noise.gradient_noise_scale for noise in snapshot.noise])


def _columns(name: str, estimates: list[Estimate]) -> dict[str, Tensor]:
    columns = {
        name: [estimate.value for estimate in estimates],
        f"{name}_low": [estimate.low for estimate in estimates],
        f"{name}_high": [estimate.high for estimate in estimates],
    }
    return {column: torch.tensor(values, dtype=torch.float64) for column, values in columns.items()}
