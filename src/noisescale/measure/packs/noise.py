"""Gradient noise of a pack: tr Σ of per-example gradients and tr Σ/|G|², with their intervals."""

from __future__ import annotations

import torch
from torch import Tensor

from noisescale.estimate import Estimate
from noisescale.measure.packs.snapshot import Snapshot


def trace_covariance(snapshot: Snapshot) -> dict[str, Tensor]:
    """tr Σ of the per-example gradient over the training set, as `gradient_noise` measures it."""
    return _columns("trace_covariance", [own.trace_covariance for own in snapshot.noise])


def gradient_noise_scale(snapshot: Snapshot) -> dict[str, Tensor]:
    """tr Σ/|G|² in examples, with |G|² beside it."""
    norms = _columns("gradient_norm_squared", [own.gradient_norm_squared for own in snapshot.noise])
    return norms | _columns("gradient_noise_scale", [own.gradient_noise_scale for own in snapshot.noise])


def _columns(name: str, found: list[Estimate]) -> dict[str, Tensor]:
    values = {name: [own.value for own in found]}
    values |= {f"{name}_low": [own.low for own in found], f"{name}_high": [own.high for own in found]}
    return {column: torch.tensor(own, dtype=torch.float64) for column, own in values.items()}
