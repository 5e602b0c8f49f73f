"""Norms and effective rates of a pack's weights, tensor by tensor: exact."""

from __future__ import annotations

import torch
from torch import Tensor

from noisescale.measure.packs.snapshot import Snapshot
from noisescale.measure.weights import rotation_angles


def weight_norm_squared(snapshot: Snapshot) -> dict[str, Tensor]:
    """‖W‖² of every weight tensor of the module."""
    return {f"weight_norm_squared.{name}": _square(own) for name, own in _weights(snapshot).items()}


def effective_learning_rate(snapshot: Snapshot) -> dict[str, Tensor]:
    """εc/‖W‖² of every weight tensor, which is ε/‖θ‖² with W = mθ, c = m².

    Source:
        Li, Lyu, Arora 2020, section 3: with momentum m the step is as long as at the rate ε/(1 − m).
    """
    return {
        f"effective_learning_rate.{name}": snapshot.learning_rates.double()
        * snapshot.problem.multipliers[name].flatten(1).mean(1).double()
        / _square(own)
        for name, own in _weights(snapshot).items()
    }


def rotation(snapshot: Snapshot) -> dict[str, Tensor]:
    """The angle between each weight tensor before and after the last step, in radians; NaN at step 0."""
    weights, before = _weights(snapshot), snapshot.before
    return {
        f"rotation.{name}": torch.full_like(_square(own), torch.nan)
        if before is None
        else rotation_angles(before[name], own)
        for name, own in weights.items()
    }


def _weights(snapshot: Snapshot) -> dict[str, Tensor]:
    """Tensors [R, …] of at least two axes each: weights, not biases or gains."""
    return {name: own for name, own in snapshot.problem.parameters.items() if own.dim() > 2}


def _square(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).double().square().sum(1)
