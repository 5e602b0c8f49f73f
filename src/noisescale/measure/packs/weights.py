"""Exact norms, effective learning rates and rotations of the weight tensors of a pack."""

from __future__ import annotations

import torch
from torch import Tensor

from noisescale.measure.packs.snapshot import Snapshot
from noisescale.measure.weights import rotation_angles


def weight_norm_squared(snapshot: Snapshot) -> dict[str, Tensor]:
    """Compute ‖W‖² of each weight tensor of the module.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The squared norms by column name, shape [R] each.
    """
    return {f"weight_norm_squared.{name}": _square(weight) for name, weight in _weights(snapshot).items()}


def effective_learning_rate(snapshot: Snapshot) -> dict[str, Tensor]:
    """Compute the effective learning rate εc/‖W‖² of each weight tensor. With W = mθ and c = m², it equals ε/‖θ‖².

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The effective rates by column name, shape [R] each.

    Source:
        Li, Lyu, Arora 2020, section 3. As in `weight_dynamics`, momentum does not change it.
    """
    return {
        f"effective_learning_rate.{name}": snapshot.learning_rates.double()
        * snapshot.problem.multipliers[name].flatten(1).mean(1).double()
        / _square(weight)
        for name, weight in _weights(snapshot).items()
    }


def rotation(snapshot: Snapshot) -> dict[str, Tensor]:
    """Compute the angle between each weight tensor before and after the last step, in radians. NaN at step 0.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The angles by column name, shape [R] each.
    """
    weights, before = _weights(snapshot), snapshot.before
    return {
        f"rotation.{name}": torch.full_like(_square(weight), torch.nan)
        if before is None
        else rotation_angles(before[name], weight)
        for name, weight in weights.items()
    }


def _weights(snapshot: Snapshot) -> dict[str, Tensor]:
    """Return the tensors, shape [R, …], with at least two axes for each run: weights, but not biases or gains."""
    return {name: tensor for name, tensor in snapshot.problem.parameters.items() if tensor.dim() > 2}


def _square(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).double().square().sum(1)
