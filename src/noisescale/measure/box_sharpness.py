"""Sharpness that does not change when weights are rescaled, together with the plain sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from noisescale.measure.hessian import Eigenvalues, hessian_eigenvalues
from noisescale.measure.instrument import instrument
from noisescale.measure.problem import Problem


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of the Hessian, in absolute and in relative weight changes.

    Args:
        plain: Largest eigenvalue of H.
        invariant: Largest eigenvalue of the matrix |w_i| H_ij |w_j|, the curvature per relative change of each weight.
    """

    plain: Eigenvalues
    invariant: Eigenvalues


@instrument
def sharpness(
    problem: Problem, *, tolerance: float | None = None, max_products: int = 1000, seed: int = 0
) -> Sharpness:
    """Compute λ_max of H and of |w|H|w|.

    Some rescalings of the weights do not change the function of a network. A ReLU unit's incoming weights can be
    multiplied by c and its outgoing weights divided by c. Weights before a normalization can be multiplied by c. Such
    a change w → Tw with a diagonal matrix T transforms H into T⁻¹HT⁻¹, but it does not change |w|H|w|.

    Args:
        problem: The problem, or a model, a loss and data.
        tolerance: Bound on the residuals, as in `hessian_eigenvalues`.
        max_products: Largest number of Hessian-vector products for each of the two eigenvalues.
        seed: Seed of the starting vector.

    Returns:
        Both eigenvalues.

    Raises:
        BadInput: `Problem` refuses the input.

    Source:
        Dinh, Pascanu, Bengio, Bengio 2017, for the rescaling; Kwon, Kim, Park, Choi 2021, section 3, for the invariant
        sharpness.
    """
    relative = problem.with_scale(torch.abs(problem.point), "relative")
    plain, invariant = (
        hessian_eigenvalues(form, tolerance=tolerance, max_products=max_products, seed=seed)
        for form in (problem, relative)
    )
    return Sharpness(plain, invariant)
