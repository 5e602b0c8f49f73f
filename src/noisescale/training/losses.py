"""The losses per item. An item is an example or, where every token has a target, a token.

A target is a class label, or a row of class probabilities (for example one-hot) or of real values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad
from torch.nn import functional

from noisescale.errors import BadInput, unknown_name

OfExample = Callable[[Tensor, Tensor], Tensor]

# Unit of a loss about which nothing is known but its values.
USER_LOSS_UNIT = "loss"


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss per example and its gradient in the outputs.

    Args:
        per_example: A function from outputs [..., K] and targets [..., K] to losses [...].
        unit: The unit, for tables and figures.
        output_gradient: A function from the same arguments to ∂loss/∂outputs, shape [..., K]. By default,
            `torch.func.grad` computes the gradient.
        constant: A function from targets [N, K] to the mean loss of the best constant output. By default, this loss is
            computed by minimization.
        needs_classes: Whether targets must be class labels.
        needs_labels: Whether targets must be 0 or 1, one for each output.
    """

    per_example: OfExample
    unit: str = USER_LOSS_UNIT
    output_gradient: OfExample | None = None
    constant: Callable[[Tensor], float] | None = None
    needs_classes: bool = False
    needs_labels: bool = False

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ∂loss/∂outputs, shape [..., K]."""
        if self.output_gradient is not None:
            return self.output_gradient(outputs, targets)
        gradient: Tensor = grad(lambda outputs: self.per_example(outputs, targets).sum())(outputs)
        return gradient

    def of_constant(self, targets: Tensor) -> float:
        """Return the mean loss of the best constant output on targets [N, K]."""
        rows = targets.double()
        if self.constant is not None:
            return self.constant(rows)
        return minimum_of_constant(self.per_example, rows, rows.mean(0))


def minimum_of_constant(per_example: OfExample, targets: Tensor, first: Tensor) -> float:
    """Return the smallest mean loss of a constant output, by minimization.

    Args:
        per_example: A function from outputs [N, …, K] and targets to losses.
        targets: The targets, shape [N, …].
        first: The output at which the minimization starts, shape [K].
    """
    output = first.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([output], max_iter=200, line_search_fn="strong_wolfe")
    items = targets.shape[: targets.dim() - targets.is_floating_point()]

    def mean() -> Tensor:
        return per_example(output.expand(*items, -1), targets).mean()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return float(mean())


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.logsumexp(outputs, -1) - (outputs * targets).sum(-1)


def _cross_entropy_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    # `MLPKernel` stores outputs as [R, K, B]. The softmax of the transpose is therefore fast.
    return torch.softmax(outputs.mT, -2).mT - targets


def _entropy(rows: Tensor) -> float:
    mean = rows.mean(0)
    return float(-(mean * mean.clamp_min(1e-300).log()).sum())


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum(-1)


def _squared_error_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs - targets


def _half_variance(rows: Tensor) -> float:
    return float(0.5 * (rows - rows.mean(0)).square().sum(1).mean())


def _binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    losses = functional.binary_cross_entropy_with_logits(outputs, targets.expand_as(outputs), reduction="none")
    return losses.mean(-1)


def _binary_cross_entropy_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    return (torch.sigmoid(outputs) - targets) / outputs.shape[-1]


def _binary_entropy(rows: Tensor) -> float:
    share = rows.mean(0)
    return float(-(torch.special.xlogy(share, share) + torch.special.xlogy(1 - share, 1 - share)).mean())


# "mse" is ½‖f − y‖², summed over outputs. With this convention, the largest stable rate is 2/λ_max, where λ_max is the
# largest eigenvalue of the NTK divided by the number of examples (Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari 2020,
# section 2). "binary_cross_entropy" is the mean over outputs, as in `torch.nn.BCEWithLogitsLoss`.
LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(_cross_entropy, "nats", _cross_entropy_gradient, _entropy, needs_classes=True),
    "mse": Loss(_squared_error, "squared error", _squared_error_gradient, _half_variance),
    "binary_cross_entropy": Loss(
        _binary_cross_entropy, "nats", _binary_cross_entropy_gradient, _binary_entropy, needs_labels=True
    ),
}


def target_rows(targets: Tensor, num_outputs: int, dtype: torch.dtype) -> Tensor:
    """Return targets as rows [N, K]: one-hot for integer labels, unchanged for real values."""
    if targets.is_floating_point():
        return targets.to(dtype)
    return functional.one_hot(targets.long(), num_outputs).to(dtype)


def check_loss(loss: str, targets: Tensor) -> None:
    """Refuse a loss that the targets do not allow. A user's loss is checked when it is called.

    Raises:
        BadInput: The loss is unknown, or the targets are of another kind than it needs.
    """
    if ":" in loss:
        return
    check_targets("training.loss", {name: row.needs_classes for name, row in LOSSES.items()}, loss, targets)
    if not LOSSES[loss].needs_labels:
        return
    if not (targets.is_floating_point() and bool(((targets == 0) | (targets == 1)).all())):
        raise BadInput("training.loss", f"targets of 0 and 1, one for each output, for {loss!r}", "other targets")


def check_targets(key: str, needs_classes: Mapping[str, bool], name: str, targets: Tensor) -> None:
    """Refuse an unknown name, and a name that needs class labels if the targets are real values.

    Args:
        key: The key of the spec, for the message.
        needs_classes: For each known name, whether it needs class labels.
        name: The name of a loss or metric.
        targets: The targets: class labels of shape [N] or [N, T], or real values of shape [N, K].

    Raises:
        BadInput: The name is unknown, or the targets do not allow it.
    """
    if name not in needs_classes:
        raise unknown_name(key, needs_classes, name)
    if needs_classes[name] and targets.is_floating_point():
        allowed = " or ".join(repr(known) for known, needs in needs_classes.items() if not needs)
        raise BadInput(key, f"{allowed} for real-valued targets", repr(name))
