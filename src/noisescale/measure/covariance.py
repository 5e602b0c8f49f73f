"""The covariance of per-example gradients: its leading eigenvalues, trace and Frobenius norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.measure.problem import CHUNK, Data, LossFunction, Problem


@dataclass(frozen=True)
class Covariance:
    """Σ = Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ/(n − 1) of the data's per-example gradients.

    Arguments:
        eigenvalues: [k], largest first. vectors: [P, k]. trace: tr Σ. frobenius_norm: ‖Σ‖_F. All exact for these data.
        examples: n. coordinates: "module" or "optimizer". gradients: per-example gradients spent. status: advice.
    """

    eigenvalues: NDArray[np.float64]
    vectors: NDArray[np.float64]
    trace: float
    frobenius_norm: float
    examples: int
    coordinates: str
    gradients: int
    status: str = "exact for these data"


def gradient_covariance(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    k: int = 1,
    *,
    learning_rate_multipliers: Mapping[str, float | Tensor] | None = None,
    chunk: int = CHUNK,
) -> Covariance:
    """The covariance of per-example gradients by its Gram matrix [n, n], which has the same eigenvalues.

    Arguments:
        model, loss, data, learning_rate_multipliers, chunk: as `Problem` takes them; all n gradients are kept at once.
        k: eigenvalues wanted, at most n − 1.
    Raises:
        BadInput: as `Problem`; k out of range.
    """
    problem = Problem(model, loss, data, learning_rate_multipliers=learning_rate_multipliers, chunk=chunk)
    n = problem.examples
    if not 1 <= k <= min(n - 1, problem.size):
        raise BadInput("k", f"between 1 and {min(n - 1, problem.size)}, for {n} examples", k)
    centred = centred_gradients(problem)
    gram = centred @ centred.T
    values, inner = torch.linalg.eigh(gram)
    values, inner = values.flip(0)[:k], inner.flip(1)[:, :k]
    vectors = centred.T @ inner / values.clamp_min(1e-300).sqrt()
    frobenius = math.sqrt(float(gram.square().sum()))
    return Covariance(
        values.cpu().numpy(), vectors.cpu().numpy(), float(gram.trace()), frobenius, n, problem.coordinates, n
    )


def centred_gradients(problem: Problem) -> Tensor:
    """Rows (g_i − ḡ)/√(n − 1) [n, P] in float64, so that Σ is their product with themselves.

    Raises:
        BadInput: fewer than two examples.
    """
    if problem.examples < 2:
        raise BadInput("data", "at least two examples", problem.examples)
    gradients = torch.cat([part.double() for part in problem.per_example_gradients()])
    return (gradients - gradients.mean(0)) / math.sqrt(problem.examples - 1)
