"""The empirical neural tangent kernel, the Gauss-Newton matrix, and the linearized largest stable rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisescale.errors import BadInput
from noisescale.measure.instrument import instrument
from noisescale.measure.lanczos import TOLERANCE, Ritz, extreme_eigenpairs
from noisescale.measure.problem import Problem, differentiable_twice


@dataclass(frozen=True)
class TangentKernel:
    """Curvature of the model linearized in its parameters.

    Args:
        eigenvalues: Largest eigenvalues of the kernel JMJᵀ/n over examples and outputs, shape [k]. J is the Jacobian of
            the outputs, and the diagonal matrix M contains the rate multipliers.
        gauss_newton: Largest eigenvalue of the Gauss-Newton matrix Σ_i J_iᵀ ℓ''_i J_i/n of the loss.
        residual: Residual ‖Av − λv‖ of the eigenvalue `gauss_newton`.
        largest_stable_rate: 2(1 + m)/gauss_newton, the largest rate at which full-batch training of the linearized
            model is stable.
        converged: Whether both eigenvalues converged.
        coordinates: Coordinates of gradients and Hessians, "module" or "optimizer".
        products: Number of products with J and Jᵀ computed.
        status: "ok", or a sentence that says what to change.
    """

    eigenvalues: NDArray[np.float64]
    gauss_newton: float
    residual: float
    largest_stable_rate: float
    converged: bool
    coordinates: str
    products: int
    status: str


@instrument
def ntk_eigenvalues(
    problem: Problem,
    k: int = 1,
    momentum: float = 0.0,
    *,
    tolerance: float | None = None,
    max_products: int = 1000,
    seed: int = 0,
) -> TangentKernel:
    """Compute the largest eigenvalues of the tangent kernel and the largest stable rate of the linearized model.

    Args:
        problem: The problem, or a model, a loss and data.
        k: Number of eigenvalues of the kernel.
        momentum: Momentum m of heavy-ball SGD.
        tolerance: Bound on the residuals, as in `hessian_eigenvalues`.
        max_products: Largest number of products for the kernel and for the Gauss-Newton matrix.
        seed: Seed of the starting vectors.

    Returns:
        Eigenvalues of the kernel and of the Gauss-Newton matrix, and the rate 2(1 + m)/λ_max.

    Raises:
        BadInput: `Problem` refuses the input, or k or m is out of range.

    Source:
        Jacot, Gabriel, Hongler 2018, for the kernel; Lewkowycz et al. 2020, section 2, for 2/λ_max; Cohen et al. 2021,
        section 2, for 2(1 + m)/λ_max.
    """
    if not 1 <= k <= problem.size:
        raise BadInput("k", f"between 1 and the {problem.size} parameters", k)
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    bound = tolerance or TOLERANCE[problem.point.dtype]

    def outermost(count: int, curved: bool) -> Ritz:
        return extreme_eigenpairs(
            lambda vector: _product(problem, vector, curved), problem.size, count, which="LA", tolerance=bound,
            most=max_products, like=problem.point, seed=seed,
        )  # fmt: skip

    # JMJᵀ and M^½JᵀJM^½ have the same nonzero eigenvalues. The size of M^½JᵀJM^½ does not depend on the data.
    kernel, newton = outermost(k, False), outermost(1, True)
    largest, products = float(newton.values[0]), kernel.products + newton.products
    converged = kernel.converged and newton.converged
    status = "ok" if converged else f"not converged in {products} products: raise max_products or tolerance"
    if not largest > 0:
        status = "the loss has no curvature in the outputs, so every rate is stable for the linearized model"
    return TangentKernel(
        kernel.values.cpu().numpy(), largest, float(newton.residuals[0]),
        2 * (1 + momentum) / largest if largest > 0 else float("inf"), converged, problem.coordinates, products, status,
    )  # fmt: skip


def _product(problem: Problem, vector: Tensor, curved: bool) -> Tensor:
    """Return Σ_i J_iᵀ A_i J_i v/n. A_i is the Hessian of the loss in the outputs if `curved`, or the identity."""
    total = torch.zeros_like(vector)
    shares = ((1 / problem.examples, batch) for batch in problem.batches())
    for share, (inputs, targets) in problem.weighted_batches() if curved else shares:
        point = problem.point.clone().requires_grad_()
        with differentiable_twice(problem.model):
            outputs = problem.outputs(point, inputs)
        # Jv is the derivative of Jᵀu with respect to u. It takes two backward passes, which every operation supports.
        probe = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, point, probe, create_graph=True)
        along = (problem.scale * vector.to(problem.point)).detach()
        (pushed,) = torch.autograd.grad(pulled, probe, along, retain_graph=True)
        if curved:
            free = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(problem.loss_of_outputs(free, targets), free, create_graph=True)
            if not slope.requires_grad:  # a loss that is linear in the outputs
                return total
            (pushed,) = torch.autograd.grad(slope, free, pushed)
        (product,) = torch.autograd.grad(outputs, point, pushed)
        total += share * (product * problem.scale).to(total)
    return total
