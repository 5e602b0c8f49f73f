"""Loss and accuracy along the straight line between two models."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from noisescale.errors import BadInput
from noisescale.measure.problem import CHUNK, Data, LossFunction, Problem


@dataclass(frozen=True)
class Interpolation:
    """Along w(α) = (1 − α)w_a + αw_b.

    Args:
        alphas: [M].
        loss: [M].
        accuracy: [M], fraction; NaN where targets are no class labels.
        status: advice.
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
    """Loss and accuracy along the line from one model to another, beyond both ends where α asks for it.

    Args:
        model_a: Of one architecture.
        model_b: Of one architecture.
        loss: As `Problem` takes them.
        data: As `Problem` takes them.
        chunk: As `Problem` takes them.
        alphas: At least one. Buffers (running statistics) move along the line with the weights.

    Raises:
        BadInput: As `Problem`; models of different shapes.

    Source:
        Goodfellow, Vinyals, Saxe 2015; Jastrzębski et al. 2017, section 4.
    """
    one, other = model_a.state_dict(), model_b.state_dict()
    if one.keys() != other.keys() or any(tensor.shape != other[name].shape for name, tensor in one.items()):
        raise BadInput("model_b", "the names and shapes of model_a", "others")
    points = np.asarray(alphas, dtype=np.float64)
    if not points.size:
        raise BadInput("alphas", "at least one number", "none")
    model, rows = copy.deepcopy(model_a), []
    for alpha in points:
        mixed = {
            name: torch.lerp(tensor, other[name], float(alpha)) if tensor.is_floating_point() else tensor
            for name, tensor in one.items()
        }
        model.load_state_dict(mixed)
        rows.append(_loss_and_accuracy(Problem(model, loss, data, chunk=chunk)))
    values = np.array(rows)
    return Interpolation(points, values[:, 0], values[:, 1])


def _loss_and_accuracy(problem: Problem) -> tuple[float, float]:
    loss, correct = 0.0, 0
    labelled = True
    with torch.no_grad():
        for weight, (inputs, targets) in problem.weighted_batches():
            outputs = problem.outputs(problem.point, inputs)
            loss += weight * float(problem.loss_of_outputs(outputs, targets))
            labelled = labelled and not targets.is_floating_point() and targets.dim() == 1
            if labelled:
                correct += int((outputs.argmax(-1) == targets).sum())
    return loss, correct / problem.examples if labelled else float("nan")
