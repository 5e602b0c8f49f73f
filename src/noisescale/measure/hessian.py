"""Eigenvalues, trace, Frobenius norm and spectral density of the Hessian, each with its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, mean_of
from noisescale.measure.instrument import instrument
from noisescale.measure.lanczos import TOLERANCE, extreme_eigenpairs, tridiagonal, tridiagonal_matrix
from noisescale.measure.problem import Problem
from noisescale.measure.sampling_error import FEWEST_SAMPLES, SquaredNorms, error_safety_factor


@dataclass(frozen=True)
class Eigenvalues:
    """Extreme eigenvalues of the Hessian.

    Args:
        values: Eigenvalues, shape [k], the outermost first.
        residuals: ‖Hv − λv‖, shape [k]. The distance from each value to the nearest true eigenvalue is at most this.
        vectors: Eigenvectors, shape [P, k].
        converged: Whether the residuals are below the tolerance and no eigenvalue lies further out.
        coordinates: Coordinates of the Hessian, "module", "optimizer" or "relative".
        products: Number of Hessian-vector products computed.
        status: "ok", or a sentence that says what to change.
        mode: Mode of the model, "eval" or "train".
    """

    values: NDArray[np.float64]
    residuals: NDArray[np.float64]
    vectors: NDArray[np.float64]
    converged: bool
    coordinates: str
    products: int
    status: str
    mode: str = "eval"


@dataclass(frozen=True)
class Measured:
    """An estimated property of the Hessian (its trace or norm), with its error.

    Args:
        estimate: Value, standard error and interval.
        coordinates: Coordinates of gradients and Hessians, "module" or "optimizer".
        products: Number of Hessian-vector products computed.
        status: "ok", or a sentence that says what to change.
        mode: Mode of the model, "eval" or "train".
    """

    estimate: Estimate
    coordinates: str
    products: int
    status: str
    mode: str = "eval"


@dataclass(frozen=True)
class Density:
    """The spectral density of the Hessian, smoothed.

    Args:
        grid: Grid of eigenvalues, shape [M].
        density: Density at each grid point, with integral 1, shape [M].
        standard_error: Standard error of the density, from the spread over probes, shape [M].
        width: Standard deviation of the Gaussian that smooths the density, in the unit of the grid.
        coordinates: Coordinates of gradients and Hessians, "module" or "optimizer".
        products: Number of Hessian-vector products computed.
        mode: Mode of the model, "eval" or "train".
        status: Always "ok".
    """

    grid: NDArray[np.float64]
    density: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    width: float
    coordinates: str
    products: int
    mode: str = "eval"
    status: str = "ok"


@instrument
def hessian_eigenvalues(
    problem: Problem,
    k: int = 1,
    which: Literal["LA", "SA", "LM"] = "LA",
    *,
    tolerance: float | None = None,
    max_products: int = 1000,
    seed: int = 0,
) -> Eigenvalues:
    """Compute the k outermost eigenvalues of the Hessian of the mean loss by Lanczos' method.

    Args:
        problem: The problem, or a model, a loss and data.
        k: Number of eigenvalues.
        which: Which eigenvalues: "LA" for the largest, "SA" for the smallest, "LM" for the largest in absolute value.
        tolerance: Bound on the residuals, relative to the largest eigenvalue in absolute value. None for 1e-9 in
            float64 and 1e-4 in float32.
        max_products: Largest number of Hessian-vector products.
        seed: Seed of the starting vector.

    Returns:
        The eigenvalues, with their residuals and vectors.

    Raises:
        BadInput: `Problem` refuses the input, k or `which` is out of range, or a second derivative is wrong.

    Source:
        Lanczos 1950; Parlett 1980, chapter 13.
    """
    if not 1 <= k <= problem.size:
        raise BadInput("k", f"between 1 and the {problem.size} parameters", k)
    if which not in ("LA", "SA", "LM"):
        raise BadInput("which", "'LA', 'SA' or 'LM'", repr(which))
    problem.check_curvature()
    pairs = extreme_eigenpairs(
        double_product(problem), problem.size, k, which=which, tolerance=tolerance or TOLERANCE[problem.point.dtype],
        most=max_products, like=problem.point, seed=seed,
    )  # fmt: skip
    status = "ok" if pairs.converged else f"not converged in {pairs.products} products: raise max_products or tolerance"
    return Eigenvalues(
        pairs.values.cpu().numpy(), pairs.residuals.cpu().numpy(), pairs.vectors.cpu().numpy(), pairs.converged,
        problem.coordinates, pairs.products, status, problem.mode,
    )  # fmt: skip


@instrument
def hessian_trace(
    problem: Problem,
    *,
    relative_error: float = 0.05,
    max_products: int = 1000,
    seed: int = 0,
) -> Measured:
    """Estimate tr H = E zᵀHz over random signs z, until the standard error is small.

    Args:
        problem: The problem, or a model, a loss and data.
        relative_error: Standard error at which sampling stops, relative to the value.
        max_products: Largest number of Hessian-vector products.
        seed: Seed of the random signs.

    Returns:
        The trace with its error, in the unit of the loss.

    Raises:
        BadInput: `Problem` refuses the input, or a second derivative is wrong.

    Source:
        Hutchinson 1990.
    """
    return _sampled(problem, lambda z, image: float(z @ image), "loss", relative_error, max_products, seed)


@instrument
def hessian_frobenius_norm(
    problem: Problem,
    *,
    relative_error: float = 0.05,
    max_products: int = 1000,
    seed: int = 0,
) -> Measured:
    """Estimate ‖H‖_F = √E‖Hz‖² over random signs z, until the standard error is small.

    Args:
        problem: The problem, or a model, a loss and data.
        relative_error: Standard error at which sampling stops, relative to the value.
        max_products: Largest number of Hessian-vector products.
        seed: Seed of the random signs.

    Returns:
        The norm with its error, in the unit of the loss. The interval allows for the skewness of ‖Hz‖².

    Raises:
        BadInput: `Problem` refuses the input, or a second derivative is wrong.

    Source:
        Hutchinson 1990, applied to H².
    """
    problem.check_curvature()
    generator, norms = torch.Generator().manual_seed(seed), SquaredNorms()
    while len(norms) < max(max_products, 2):
        norms.add(problem.hessian_product(_signs(problem, generator)).double())
        count = len(norms)
        if count >= FEWEST_SAMPLES and norms.relative_error <= relative_error:
            if error_safety_factor(count) * norms.sampled_relative_error <= relative_error:
                break
    reached = norms.relative_error <= relative_error
    return Measured(
        norms.root("loss"), problem.coordinates, len(norms), _sampling_status(reached, relative_error, len(norms)),
        problem.mode,
    )  # fmt: skip


@instrument
def hessian_spectral_density(
    problem: Problem,
    *,
    steps: int = 64,
    probes: int = 8,
    points: int = 512,
    width: float | None = None,
    seed: int = 0,
) -> Density:
    """Estimate the density of the Hessian's eigenvalues by stochastic Lanczos quadrature, smoothed by a Gaussian.

    Args:
        problem: The problem, or a model, a loss and data.
        steps: Number of Lanczos steps for each probe.
        probes: Number of random directions. Their spread gives the error.
        points: Number of points of the grid.
        width: Standard deviation of the Gaussian. None for a hundredth of the range of the spectrum.
        seed: Seed of the probes.

    Returns:
        The density on a grid.

    Raises:
        BadInput: `Problem` refuses the input, there are fewer than two probes, or a second derivative is wrong.

    Source:
        Lin, Saad, Yang 2016; Ghorbani, Krishnan, Xiao 2019.
    """
    if probes < 2:
        raise BadInput("probes", "at least 2, because the error is computed from their spread", probes)
    problem.check_curvature()
    generator = torch.Generator().manual_seed(seed)
    product, nodes, weights, spent = double_product(problem), [], [], 0
    for _ in range(probes):
        start = torch.randn(problem.size, generator=generator, dtype=torch.float64).to(problem.point.device)
        diagonal, off = (part.cpu() for part in tridiagonal(product, start, min(steps, problem.size)))
        values, vectors = torch.linalg.eigh(tridiagonal_matrix(diagonal, off))
        nodes.append(values.numpy())
        weights.append(vectors[0].square().numpy())
        spent += len(diagonal)
    lowest, highest = min(map(np.min, nodes)), max(map(np.max, nodes))
    spread = width or 0.01 * max(highest - lowest, 1e-12)
    grid = np.linspace(lowest - 5 * spread, highest + 5 * spread, points)
    densities = np.stack([_smoothed(grid, node, weight, spread) for node, weight in zip(nodes, weights, strict=True)])
    error = densities.std(axis=0, ddof=1) / math.sqrt(probes)
    return Density(grid, densities.mean(0), error, float(spread), problem.coordinates, spent, problem.mode)


def _smoothed(
    grid: NDArray[np.float64], nodes: NDArray[np.float64], weights: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    bumps = np.exp(-0.5 * ((grid[:, None] - nodes) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    density: NDArray[np.float64] = bumps @ weights
    return density


def _sampled(
    problem: Problem, quantity: Callable[[Tensor, Tensor], float], unit: str, relative: float, most: int, seed: int
) -> Measured:
    """Average a quantity over random signs until its error is small or `most` products are computed."""
    problem.check_curvature()
    generator = torch.Generator().manual_seed(seed)
    samples: list[float] = []
    while len(samples) < max(most, 2):
        signs = _signs(problem, generator)
        samples.append(quantity(signs.double(), problem.hessian_product(signs).double()))
        count = len(samples)
        if count >= FEWEST_SAMPLES:
            bound = relative * abs(float(np.mean(samples)))
            if error_safety_factor(count) * mean_of(samples, unit).standard_error <= bound:
                break
    mean = mean_of(samples, unit)
    reached = mean.standard_error <= relative * abs(mean.value)
    status = _sampling_status(reached, relative, len(samples))
    return Measured(mean, problem.coordinates, len(samples), status, problem.mode)


def _signs(problem: Problem, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (problem.size,), generator=generator).to(problem.point) * 2 - 1


def _sampling_status(reached: bool, relative: float, samples: int) -> str:
    return "ok" if reached else f"the error is above {relative:.0%} after {samples} products: raise max_products"


def double_product(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Return a function that multiplies the Hessian with float64 vectors, in the precision of the model.

    Args:
        problem: The problem.
    """
    return lambda vector: problem.hessian_product(vector.to(problem.point)).double()
