"""The two losses, over rows of targets: class probabilities (or one-hot) and real values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noisescale.errors import BadInput


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss per example and its gradient in the outputs.

    Arguments:
        per_example: (outputs[..., K], targets[..., K]) -> [...]; in nats for cross-entropy.
        output_gradient: ∂(per_example)/∂outputs, same arguments -> [..., K].
    """

    per_example: Callable[[Tensor, Tensor], Tensor]
    output_gradient: Callable[[Tensor, Tensor], Tensor]


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.logsumexp(outputs, -1) - (outputs * targets).sum(-1)


def _cross_entropy_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    # Over the last axis but one of the transpose, which the explicit kernel lays out so that this is fast.
    return torch.softmax(outputs.mT, -2).mT - targets


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum(-1)


def _squared_error_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs - targets


# "mse" is ½‖f − y‖², summed over outputs: the convention in which the largest stable rate is 2/λ_max of the NTK
# divided by the number of examples (Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari 2020, section 2).
LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(_cross_entropy, _cross_entropy_gradient),
    "mse": Loss(_squared_error, _squared_error_gradient),
}


def target_rows(targets: Tensor, num_outputs: int, dtype: torch.dtype) -> Tensor:
    """Targets as rows [N, K]: one-hot for integer labels, unchanged for real values."""
    if targets.is_floating_point():
        return targets.to(dtype)
    return torch.nn.functional.one_hot(targets, num_outputs).to(dtype)


def check_loss(loss: str, targets: Tensor) -> None:
    """Refuse a loss that the targets do not allow.

    Raises:
        BadInput: an unknown loss, or cross-entropy on real-valued targets.
    """
    if loss not in LOSSES:
        raise BadInput("training.loss", f"one of {', '.join(LOSSES)}", repr(loss))
    if loss == "cross_entropy" and targets.is_floating_point():
        raise BadInput("training.loss", "'mse' for real-valued targets", repr(loss))
