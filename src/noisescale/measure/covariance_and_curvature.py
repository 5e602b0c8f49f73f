"""The covariance C of gradients compared with the Hessian H, to see whether noise follows curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, with_t_interval
from noisescale.measure.covariance import centred_gradients
from noisescale.measure.hessian import double_product
from noisescale.measure.instrument import instrument
from noisescale.measure.lanczos import TOLERANCE, extreme_eigenpairs
from noisescale.measure.problem import Problem
from noisescale.measure.sampling_error import FEWEST_SAMPLES, error_safety_factor


@dataclass(frozen=True)
class NoiseAndCurvature:
    """A comparison of the covariance C of per-example gradients with the Hessian H.

    Args:
        trace_ratio: The ratio tr C/tr H, where tr C is exact and tr H is estimated.
        cosine: The cosine ⟨C, H⟩/(‖C‖‖H‖) with Frobenius' inner product. It is 1 if C and H are proportional.
        curvatures: Largest eigenvalues λ_i of H, shape [k].
        noises: Variances vᵢᵀCvᵢ of the gradient along the eigenvectors v_i of H, shape [k].
        slope: Least-squares slope of vᵢᵀCvᵢ on λ_i through the origin. Its interval is infinite for k = 1.
        correlation: Correlation of vᵢᵀCvᵢ and λ_i over the k directions. NaN for k < 3.
        converged: Whether the eigenpairs converged.
        coordinates: Coordinates of gradients and Hessians, "module" or "optimizer".
        products: Number of Hessian-vector products computed.
        status: "ok", or a sentence that says what to change.
    """

    trace_ratio: Estimate
    cosine: Estimate
    curvatures: NDArray[np.float64]
    noises: NDArray[np.float64]
    slope: Estimate
    correlation: float
    converged: bool
    coordinates: str
    products: int
    status: str


@instrument
def noise_and_curvature(
    problem: Problem, k: int = 10, *, error: float = 0.05, max_products: int = 400, seed: int = 0
) -> NoiseAndCurvature:
    """Compare the covariance C of gradients with the Hessian H: traces, angle, and variances along eigenvectors of H.

    With random signs z, tr H = E zᵀHz, ⟨C, H⟩ = E (Cz)ᵀ(Hz) and ‖H‖² = E‖Hz‖². C is exact for the given data.

    Args:
        problem: The problem, or a model, a loss and data. All gradients are kept in memory.
        k: Number of eigenvectors of H. They belong to the largest eigenvalues.
        error: Standard error of the cosine at which sampling stops.
        max_products: Largest number of Hessian-vector products with random signs.
        seed: Seed of the random signs.

    Returns:
        The comparison.

    Raises:
        BadInput: `Problem` refuses the input, there are fewer than two examples, k is out of range, or a second
            derivative is wrong.

    Source:
        Jastrzębski et al. 2017, section 2, and Thomas et al. 2020, section 4, for the comparison; Hutchinson 1990.
    """
    if not 1 <= k <= problem.size:
        raise BadInput("k", f"between 1 and the {problem.size} parameters", k)
    problem.check_curvature()
    gradients, product, generator = centred_gradients(problem), double_product(problem), torch.Generator()
    generator.manual_seed(seed)
    gram = gradients @ gradients.T
    trace, norm = float(gram.trace()), math.sqrt(float(gram.square().sum()))
    rows: list[tuple[float, float, float]] = []
    while len(rows) < max(max_products, FEWEST_SAMPLES):
        signs = (torch.randint(2, (problem.size,), generator=generator) * 2.0 - 1).to(gradients)
        curved, noisy = product(signs), gradients.T @ (gradients @ signs)
        rows.append((float(signs @ curved), float(noisy @ curved), float(curved @ curved)))
        count = len(rows)
        if count >= FEWEST_SAMPLES and error_safety_factor(count) * _cosine(rows, norm).standard_error <= error:
            break
    top = extreme_eigenpairs(
        product, problem.size, k, which="LA", tolerance=TOLERANCE[problem.point.dtype], most=1000, like=problem.point,
        seed=seed,
    )  # fmt: skip
    curvatures = top.values.cpu().numpy()
    noises = (gradients @ top.vectors).square().sum(0).cpu().numpy()
    correlation = float(np.corrcoef(curvatures, noises)[0, 1]) if k > 2 else math.nan
    ratio, cosine = _jackknifed(np.array(rows), lambda means: trace / means[0]), _cosine(rows, norm)
    reached = cosine.standard_error <= error
    status = (
        "ok" if reached else f"the cosine's error is above {error:g} after {len(rows)} products: raise max_products"
    )
    if not top.converged:
        status = f"eigenvectors have not converged in {top.products} products"
    return NoiseAndCurvature(
        ratio, cosine, curvatures, noises, _slope(curvatures, noises), correlation, top.converged,
        problem.coordinates, len(rows) + top.products, status,
    )  # fmt: skip


def _cosine(rows: list[tuple[float, float, float]], norm: float) -> Estimate:
    return _jackknifed(np.array(rows), lambda means: means[1] / (norm * math.sqrt(max(means[2], 1e-300))))


def _jackknifed(rows: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float]) -> Estimate:
    """Return the value of a function of column means, with its error from the delete-one jackknife."""
    n, mean = len(rows), rows.mean(0)
    replicates = np.array([statistic((n * mean - row) / (n - 1)) for row in rows])
    error = math.sqrt((n - 1) / n * float(np.square(replicates - replicates.mean()).sum()))
    return with_t_interval(statistic(mean), error, n - 1, "ratio")


def _slope(curvatures: NDArray[np.float64], noises: NDArray[np.float64]) -> Estimate:
    squares = float(curvatures @ curvatures)
    value = float(curvatures @ noises) / squares
    freedom = len(curvatures) - 1
    if not freedom:
        return Estimate(value, -math.inf, math.inf, "ratio", standard_error=math.inf)
    error = math.sqrt(float(np.square(noises - value * curvatures).sum()) / freedom / squares)
    half_width = float(stats.t.ppf(0.975, freedom)) * error
    return Estimate(value, value - half_width, value + half_width, "ratio", standard_error=error)
