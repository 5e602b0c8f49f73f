"""Gradient covariance C against the Hessian H: how far the noise follows the curvature."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.measure.covariance import centred_gradients
from noisescale.measure.estimate import FEWEST_SAMPLES, Estimate, most_of_the_error, with_t_interval
from noisescale.measure.hessian import double_product
from noisescale.measure.lanczos import TOLERANCE, extreme_eigenpairs
from noisescale.measure.problem import CHUNK, Data, LossFunction, Problem


@dataclass(frozen=True)
class NoiseAndCurvature:
    """C, the covariance of per-example gradients, beside H.

    Arguments:
        trace_ratio: tr C/tr H, of which only tr H is an estimate. cosine: ⟨C, H⟩/(‖C‖‖H‖) in Frobenius' product, 1
            where they are proportional.
        curvatures: [k], the top eigenvalues λ_i of H. noises: [k], vᵢᵀCvᵢ along their eigenvectors.
        slope: of vᵢᵀCvᵢ on λ_i through the origin, by least squares; an infinite interval for k = 1.
        correlation: of the two over the k directions; NaN for k < 3. converged: of the eigenpairs.
        coordinates: "module" or "optimizer". products: Hessian-vector products spent. status: advice.
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


def noise_and_curvature(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    k: int = 10,
    *,
    error: float = 0.05,
    max_products: int = 400,
    learning_rate_multipliers: Mapping[str, float | Tensor] | None = None,
    chunk: int = CHUNK,
    seed: int = 0,
) -> NoiseAndCurvature:
    """Compare C with H: their traces, their angle, and C along the top eigenvectors of H.

    With random signs z: tr H = E zᵀHz, ⟨C, H⟩ = E (Cz)ᵀ(Hz), ‖H‖² = E‖Hz‖²; C is exact for these data.

    Arguments:
        model, loss, data, learning_rate_multipliers, chunk: as `Problem` takes them; all gradients are kept at once.
        k: top eigenvectors of H. error: standard error of the cosine at which to stop. max_products: of the probes.
    Raises:
        BadInput: as `Problem`; fewer than two examples, or k out of range.
    Source:
        Jastrzębski et al. 2017, section 2, and Thomas et al. 2020, section 4, for the comparison; Hutchinson 1990.
    """
    problem = Problem(model, loss, data, learning_rate_multipliers=learning_rate_multipliers, chunk=chunk)
    if not 1 <= k <= problem.size:
        raise BadInput("k", f"between 1 and the {problem.size} parameters", k)
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
        if count >= FEWEST_SAMPLES and most_of_the_error(count) * _cosine(rows, norm).standard_error <= error:
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


def _jackknifed(rows: NDArray[np.float64], of: Callable[[NDArray[np.float64]], float]) -> Estimate:
    """A function of column means, with the delete-one jackknife's error."""
    n, whole = len(rows), rows.mean(0)
    each = np.array([of((n * whole - row) / (n - 1)) for row in rows])
    error = math.sqrt((n - 1) / n * float(np.square(each - each.mean()).sum()))
    return with_t_interval(of(whole), error, n - 1, "ratio")


def _slope(curvatures: NDArray[np.float64], noises: NDArray[np.float64]) -> Estimate:
    squares = float(curvatures @ curvatures)
    value = float(curvatures @ noises) / squares
    freedom = len(curvatures) - 1
    if not freedom:
        return Estimate(value, math.inf, -math.inf, math.inf, "ratio")
    error = math.sqrt(float(np.square(noises - value * curvatures).sum()) / freedom / squares)
    half = float(stats.t.ppf(0.975, freedom)) * error
    return Estimate(value, error, value - half, value + half, "ratio")
