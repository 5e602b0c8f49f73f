"""The losses of `noisescale measure`: means over the examples of a batch, or over its tokens if they have targets.

They are the losses of `training.loss` in a sweep.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from noisescale.errors import BadInput
from noisescale.user_code import import_named

MeanLoss = Callable[[Tensor, Tensor], Tensor]

KEY = "--loss"
CROSS_ENTROPY, MSE, BINARY = "cross_entropy", "mse", "binary_cross_entropy"
_NAMES = (CROSS_ENTROPY, MSE, BINARY)


def mean_loss(name: str, targets: Tensor, ignore_index: int | None = None) -> MeanLoss:
    """Return a loss by its name, as a function of outputs [B, …, K] and targets.

    Args:
        name: "cross_entropy", "mse", "binary_cross_entropy", or "package.module:function" of a function from outputs
            and targets to a value for each example [B] or token [B, T].
        targets: All targets that are measured, shape [N, …].
        ignore_index: Label of the targets that do not count in the cross-entropy; None if all count.

    Raises:
        BadInput: The name is unknown, or the targets are of another kind than the loss takes.
    """
    real = targets.is_floating_point()
    if ignore_index is not None and name != CROSS_ENTROPY:
        raise BadInput("--ignore-index", f"left out for another loss than {CROSS_ENTROPY}", ignore_index)
    if ":" in name:
        return _of_values(import_named(name, KEY), name)
    if name not in _NAMES:
        raise BadInput(KEY, f"one of {', '.join(map(repr, _NAMES))}, or 'package.module:function'", repr(name))
    if name == MSE:
        return half_squared_error
    if name == BINARY:
        if not (real and bool(((targets == 0) | (targets == 1)).all())):
            raise BadInput(KEY, f"targets of 0 and 1, one for each output, for {name!r}", "other targets")
        return _binary_cross_entropy
    if real:
        raise BadInput(KEY, f"{MSE!r} or {BINARY!r} for real-valued targets", repr(name))
    counted = targets if ignore_index is None else targets[targets != ignore_index]
    if not len(counted):
        raise BadInput("--ignore-index", "a label that leaves some targets", f"{ignore_index}, which is all")
    if (smallest := int(counted.min())) < 0:
        raise BadInput(
            "--ignore-index", f"{smallest}, because targets have this negative label", ignore_index or "none"
        )
    return lambda outputs, labels: _cross_entropy(outputs, labels, ignore_index)


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Compute ½‖f − y‖², summed over outputs and averaged over the examples or tokens.

    Args:
        outputs: Outputs f, shape [B, …, K].
        targets: Targets y, shape [B, K], or class labels, shape [B] or [B, T], which are converted to one-hot rows.
    """
    if not targets.is_floating_point():
        targets = functional.one_hot(targets, outputs.shape[-1])
    _check_shape(outputs, targets)
    return 0.5 * (outputs - targets.to(outputs)).square().sum(-1).mean()


def _cross_entropy(outputs: Tensor, labels: Tensor, ignore_index: int | None) -> Tensor:
    if outputs.shape[:-1] != labels.shape:
        required = f"outputs {[*labels.shape, 'K']} for labels {list(labels.shape)}"
        raise BadInput("MODEL", required, f"outputs {list(outputs.shape)}")
    # Without an index, no label is negative.
    index = -100 if ignore_index is None else ignore_index
    return functional.cross_entropy(outputs.flatten(0, -2), labels.flatten(), ignore_index=index)


def _binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    _check_shape(outputs, targets)
    return functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs))


def _check_shape(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        raise BadInput("MODEL", f"outputs {list(targets.shape)}, as the targets", f"outputs {list(outputs.shape)}")


def _of_values(function: Callable[[Tensor, Tensor], Tensor], name: str) -> MeanLoss:
    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        shape = list(targets.shape[: 1 if targets.is_floating_point() else None])
        required = f"{name} to return values {shape} of outputs {list(outputs.shape)} and targets {list(targets.shape)}"
        values = function(outputs, targets)
        if not isinstance(values, torch.Tensor) or list(values.shape) != shape:
            got = list(values.shape) if isinstance(values, torch.Tensor) else f"a {type(values).__name__}"
            raise BadInput(KEY, required, got)
        return values.mean()

    return mean
