"""The empirical neural tangent kernel, the Gauss-Newton matrix, and the linearised largest stable rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisescale.errors import BadInput
from noisescale.measure.lanczos import TOLERANCE, Ritz, extreme_eigenpairs
from noisescale.measure.problem import CHUNK, Data, LossFunction, Problem


@dataclass(frozen=True)
class TangentKernel:
    """Curvature of the model linearised in its parameters.

    Arguments:
        eigenvalues: [k], the largest of the kernel JMJᵀ/n over examples and outputs, M the rate multipliers.
        gauss_newton: the largest eigenvalue of the Gauss-Newton matrix Σ_i J_iᵀ ℓ''_i J_i/n of the stated loss.
        largest_stable_rate: 2(1 + m)/gauss_newton, at which the linearised model under full batches is just stable.
        residual: of gauss_newton. converged: of both. coordinates: "module" or "optimizer". products: passes through J
            and Jᵀ spent. status: advice.
    """

    eigenvalues: NDArray[np.float64]
    gauss_newton: float
    residual: float
    largest_stable_rate: float
    converged: bool
    coordinates: str
    products: int
    status: str


def ntk_eigenvalues(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    k: int = 1,
    momentum: float = 0.0,
    *,
    tolerance: float | None = None,
    max_products: int = 1000,
    learning_rate_multipliers: Mapping[str, float | Tensor] | None = None,
    chunk: int = CHUNK,
    seed: int = 0,
) -> TangentKernel:
    """The largest eigenvalues of the empirical tangent kernel, and the rate above which the linearised model diverges.

    Arguments:
        model, loss, data, learning_rate_multipliers, chunk: as `Problem` takes them. k: eigenvalues wanted.
        momentum: m of heavy-ball SGD. tolerance, max_products: as in `hessian_eigenvalues`.
    Raises:
        BadInput: as `Problem`; k or m out of range.
    Source:
        Jacot, Gabriel, Hongler 2018, for the kernel; Lewkowycz et al. 2020, section 2, for 2/λ_max; with momentum
        2(1 + m)/λ_max: Cohen et al. 2021, section 2.
    """
    problem = Problem(model, loss, data, learning_rate_multipliers=learning_rate_multipliers, chunk=chunk)
    if not 1 <= k <= problem.size:
        raise BadInput("k", f"between 1 and the {problem.size} parameters", k)
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    within = tolerance or TOLERANCE[problem.point.dtype]

    def outermost(count: int, curved: bool) -> Ritz:
        return extreme_eigenpairs(
            lambda vector: _product(problem, vector, curved), problem.size, count, which="LA", tolerance=within,
            most=max_products, like=problem.point, seed=seed,
        )  # fmt: skip

    # JMJᵀ and M^½JᵀJM^½ share their eigenvalues; the latter is as large as the model, whatever the data.
    kernel, newton = outermost(k, False), outermost(1, True)
    largest, products = float(newton.values[0]), kernel.products + newton.products
    converged = kernel.converged and newton.converged
    status = "ok" if converged else f"not converged in {products} products: raise max_products or tolerance"
    if not largest > 0:
        status = "the loss has no curvature in the outputs: every rate is stable for its linearised model"
    return TangentKernel(
        kernel.values.cpu().numpy(), largest, float(newton.residuals[0]),
        2 * (1 + momentum) / largest if largest > 0 else float("inf"), converged, problem.coordinates, products, status,
    )  # fmt: skip


def _product(problem: Problem, vector: Tensor, curved: bool) -> Tensor:
    """Σ_i J_iᵀ A_i J_i v/n, with A_i the Hessian of the loss in the outputs, or the identity."""
    total = torch.zeros_like(vector)
    for weight, (inputs, targets) in problem.weighted_batches():
        point = problem.point.clone().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            outputs = problem.outputs(point, inputs)
        # Jv as the derivative of Jᵀu in u: two backward passes, which every operation has.
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
            share = weight
        else:
            share = weight / len(inputs)
        (found,) = torch.autograd.grad(outputs, point, pushed)
        total += share * (found * problem.scale).to(total)
    return total
