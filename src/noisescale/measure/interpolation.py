"""Loss and accuracy along the straight line between two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.measure.problem import CHUNK, Data, LossFunction, Problem


@dataclass(frozen=True)
class Interpolation:
    """Loss and accuracy along w(α) = (1 − α)w_a + αw_b.

    Args:
        alphas: Values of α, shape [M].
        loss: Loss at each α, shape [M].
        accuracy: Accuracy at each α, as a fraction of the targets that the loss does not ignore, shape [M]. NaN if the
            targets are not class labels.
        status: Always "exact for these data".
    """

    alphas: NDArray[np.float64]
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    status: str = "exact for these data"


def interpolate(
    model_a: nn.Module,
    model_b: nn.Module,
    loss: LossFunction,
    data: Data,
    alphas: Sequence[float] | NDArray[np.float64],
    *,
    chunk: int = CHUNK,
) -> Interpolation:
    """Compute loss and accuracy along the line through two models, w(α) = (1 − α)w_a + αw_b.

    Buffers (running statistics) are interpolated like the weights.

    Args:
        model_a: Model at α = 0.
        model_b: Model at α = 1, of the same architecture.
        loss: Loss of outputs and targets, averaged over the batch.
        data: Data, as in `Problem`.
        alphas: Values of α, at least one. They may lie below 0 or above 1.
        chunk: Number of examples of one forward pass.

    Returns:
        Loss and accuracy at each α.

    Raises:
        BadInput: `Problem` refuses the input, or the models have different shapes.

    Source:
        Goodfellow, Vinyals, Saxe 2015; Jastrzębski et al. 2017, section 4.
    """
    start, end = model_a.state_dict(), model_b.state_dict()
    if start.keys() != end.keys() or any(tensor.shape != end[name].shape for name, tensor in start.items()):
        raise BadInput("model_b", "the names and shapes of model_a", "different names or shapes")
    points = np.asarray(alphas, dtype=np.float64)
    if not points.size:
        raise BadInput("alphas", "at least one number", "none")
    model, rows = Problem(model_a, loss, data, chunk=chunk).model, []
    for alpha in points:
        mixed = {name: _mixed(tensor, end[name], float(alpha)) for name, tensor in start.items()}
        model.load_state_dict(mixed)
        rows.append(_loss_and_accuracy(Problem(model, loss, data, chunk=chunk)))
    values = np.array(rows)
    return Interpolation(points, values[:, 0], values[:, 1])


def _mixed(start: Tensor, end: Tensor, alpha: float) -> Tensor:
    """Return (1 − α)·start + α·end, or the start if the numbers are whole."""
    return torch.lerp(start, end, alpha) if start.is_floating_point() or start.is_complex() else start


def _loss_and_accuracy(problem: Problem) -> tuple[float, float]:
    loss, correct, counted = 0.0, 0, 0
    has_labels = True
    with torch.no_grad():
        for weight, (inputs, targets) in problem.weighted_batches():
            outputs = problem.outputs(problem.point, inputs)
            loss += weight * float(problem.loss_of_outputs(outputs, targets))
            has_labels = has_labels and not targets.is_floating_point() and targets.dim() == 1
            if has_labels:
                valid = problem.relative_weights(targets) != 0
                correct += int(((outputs.argmax(-1) == targets) & valid).sum())
                counted += int(valid.sum())
    return loss, correct / counted if has_labels else float("nan")
