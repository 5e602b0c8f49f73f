"""The covariance of per-example gradients: its leading eigenvalues, trace and Frobenius norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisescale.errors import BadInput
from noisescale.measure.instrument import instrument
from noisescale.measure.problem import Problem


@dataclass(frozen=True)
class Covariance:
    """The covariance Σ = Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ/(n − 1) of the per-example gradients g_i.

    Args:
        eigenvalues: The leading eigenvalues, shape [k], the largest first.
        vectors: The eigenvectors of the leading eigenvalues, shape [P, k].
        trace: The trace of Σ.
        frobenius_norm: The Frobenius norm ‖Σ‖_F.
        examples: Number n of examples.
        coordinates: Coordinates of gradients and Hessians, "module" or "optimizer".
        gradients: Number of per-example gradients computed.
        status: Always "exact for these data".
    """

    eigenvalues: NDArray[np.float64]
    vectors: NDArray[np.float64]
    trace: float
    frobenius_norm: float
    examples: int
    coordinates: str
    gradients: int
    status: str = "exact for these data"


@instrument
def gradient_covariance(problem: Problem, k: int = 1) -> Covariance:
    """Compute the covariance of per-example gradients from its Gram matrix [n, n], which has the same eigenvalues.

    Args:
        problem: The problem, or a model, a loss and data. All n gradients are kept in memory.
        k: Number of eigenvalues, at most n − 1.

    Returns:
        The leading eigenvalues, trace and Frobenius norm.

    Raises:
        BadInput: `Problem` refuses the input, or k is out of range.
    """
    n = problem.examples
    if not 1 <= k <= min(n - 1, problem.size):
        raise BadInput("k", f"between 1 and {min(n - 1, problem.size)}, for {n} examples", k)
    centred = centred_gradients(problem)
    gram = centred @ centred.T
    values, gram_vectors = torch.linalg.eigh(gram)
    values, gram_vectors = values.flip(0)[:k], gram_vectors.flip(1)[:, :k]
    vectors = centred.T @ gram_vectors / values.clamp_min(1e-300).sqrt()
    frobenius = math.sqrt(float(gram.square().sum()))
    return Covariance(
        values.cpu().numpy(), vectors.cpu().numpy(), float(gram.trace()), frobenius, n, problem.coordinates, n
    )


def centred_gradients(problem: Problem) -> Tensor:
    """Return the matrix C with the rows (g_i − ḡ)/√(n − 1), shape [n, P], in float64. The covariance is Σ = CᵀC.

    Args:
        problem: The problem.

    Raises:
        BadInput: There are fewer than two examples.
    """
    if problem.examples < 2:
        raise BadInput("data", "at least two examples", problem.examples)
    gradients = torch.cat([part.double() for part in problem.per_example_gradients()])
    return (gradients - gradients.mean(0)) / math.sqrt(problem.examples - 1)
