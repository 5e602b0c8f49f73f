"""Curvature: eigenvalues, trace, Frobenius norm and spectral density of the Hessian, each with its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.measure.estimate import FEWEST_SAMPLES, Estimate, mean_of, most_of_the_error
from noisescale.measure.lanczos import TOLERANCE, extreme_eigenpairs, tridiagonal, tridiagonal_matrix
from noisescale.measure.problem import CHUNK, Data, LossFunction, Mode, Problem

Multipliers = Mapping[str, float | Tensor] | None


@dataclass(frozen=True)
class Eigenvalues:
    """Extreme eigenvalues of the Hessian.

    Arguments:
        values: [k], outermost first. residuals: [k], ‖Hv − λv‖: an eigenvalue lies within it of each value.
        vectors: [P, k]. converged: whether residuals are below the tolerance and none further out was found.
        coordinates: "module", "optimizer" or "relative". products: Hessian-vector products spent. status: advice.
        mode: "eval" or "train", of the model.
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
    """One number with its error.

    Arguments:
        estimate: value, standard error and interval. coordinates: "module" or "optimizer".
        products: Hessian-vector products spent. status: advice. mode: "eval" or "train", of the model.
    """

    estimate: Estimate
    coordinates: str
    products: int
    status: str
    mode: str = "eval"


@dataclass(frozen=True)
class Density:
    """The spectral density of the Hessian, smoothed.

    Arguments:
        grid: [M], eigenvalues. density: [M], its integral is 1. standard_error: [M], over the probes.
        width: standard deviation of the smoothing, in the unit of the grid. coordinates, mode, products: as elsewhere.
        status: advice.
    """

    grid: NDArray[np.float64]
    density: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    width: float
    coordinates: str
    products: int
    mode: str = "eval"
    status: str = "ok"


def hessian_eigenvalues(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    k: int = 1,
    which: Literal["LA", "SA", "LM"] = "LA",
    *,
    tolerance: float | None = None,
    max_products: int = 1000,
    learning_rate_multipliers: Multipliers = None,
    mode: Mode = "eval",
    chunk: int = CHUNK,
    seed: int = 0,
) -> Eigenvalues:
    """The k outermost eigenvalues of the Hessian of the mean loss, by Lanczos.

    Arguments:
        model, loss, data, learning_rate_multipliers, mode, chunk: as `Problem` takes them.
        which: "LA" largest, "SA" smallest, "LM" largest in size. tolerance: of residuals, relative to the largest
            value (default 1e-9 in float64, 1e-4 in float32). max_products: after which what was found is returned.
    Raises:
        BadInput: as `Problem`; k below 1 or above the number of parameters; an unknown end of the spectrum.
    Source:
        Lanczos 1950; Parlett 1980, chapter 13.
    """
    problem = Problem(model, loss, data, learning_rate_multipliers=learning_rate_multipliers, mode=mode, chunk=chunk)
    return eigenvalues_of(problem, k, which, tolerance=tolerance, most=max_products, seed=seed)


def eigenvalues_of(
    problem: Problem, k: int, which: Literal["LA", "SA", "LM"], *, tolerance: float | None, most: int, seed: int
) -> Eigenvalues:
    """The same of a problem, in its coordinates."""
    if not 1 <= k <= problem.size:
        raise BadInput("k", f"between 1 and the {problem.size} parameters", k)
    if which not in ("LA", "SA", "LM"):
        raise BadInput("which", "'LA', 'SA' or 'LM'", repr(which))
    found = extreme_eigenpairs(
        double_product(problem), problem.size, k, which=which, tolerance=tolerance or TOLERANCE[problem.point.dtype],
        most=most, like=problem.point, seed=seed,
    )  # fmt: skip
    status = "ok" if found.converged else f"not converged in {found.products} products: raise max_products or tolerance"
    return Eigenvalues(
        found.values.cpu().numpy(), found.residuals.cpu().numpy(), found.vectors.cpu().numpy(), found.converged,
        problem.coordinates, found.products, status, problem.mode,
    )  # fmt: skip


def hessian_trace(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    *,
    relative_error: float = 0.05,
    max_products: int = 1000,
    learning_rate_multipliers: Multipliers = None,
    mode: Mode = "eval",
    chunk: int = CHUNK,
    seed: int = 0,
) -> Measured:
    """tr H = E zᵀHz over random signs z, sampled until its standard error is small.

    Arguments:
        model, loss, data, learning_rate_multipliers, mode, chunk: as `Problem` takes them.
        relative_error: the standard error at which to stop, relative to the value. max_products: at which to stop
            whatever the error.
    Raises:
        BadInput: as `Problem`.
    Source:
        Hutchinson 1990.
    """
    problem = Problem(model, loss, data, learning_rate_multipliers=learning_rate_multipliers, mode=mode, chunk=chunk)
    return _sampled(problem, lambda z, image: float(z @ image), "loss", relative_error, max_products, seed)


def hessian_frobenius_norm(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    *,
    relative_error: float = 0.05,
    max_products: int = 1000,
    learning_rate_multipliers: Multipliers = None,
    mode: Mode = "eval",
    chunk: int = CHUNK,
    seed: int = 0,
) -> Measured:
    """‖H‖_F = √E‖Hz‖² over random signs z; arguments and errors as `hessian_trace`.

    Source: Hutchinson 1990, applied to H².
    """
    problem = Problem(model, loss, data, learning_rate_multipliers=learning_rate_multipliers, mode=mode, chunk=chunk)
    # Half of the relative error of the square is that of the root.
    square = _sampled(problem, lambda _, image: float(image @ image), "loss", 2 * relative_error, max_products, seed)
    own = square.estimate
    value, low, high = (math.sqrt(max(0.0, end)) for end in (own.value, own.low, own.high))
    error = own.standard_error / (2 * value) if value else math.inf
    return Measured(
        Estimate(value, error, low, high, own.unit), square.coordinates, square.products, square.status, square.mode
    )


def hessian_spectral_density(
    model: nn.Module,
    loss: LossFunction,
    data: Data,
    *,
    steps: int = 64,
    probes: int = 8,
    points: int = 512,
    width: float | None = None,
    learning_rate_multipliers: Multipliers = None,
    mode: Mode = "eval",
    chunk: int = CHUNK,
    seed: int = 0,
) -> Density:
    """The density of the Hessian's eigenvalues by stochastic Lanczos quadrature, smoothed by a Gaussian.

    Arguments:
        model, loss, data, learning_rate_multipliers, mode, chunk: as `Problem` takes them.
        steps: of Lanczos for each probe. probes: random directions, whose spread gives the error. points: of the grid.
        width: standard deviation of the smoothing; default a hundredth of the spectrum's range.
    Raises:
        BadInput: as `Problem`; fewer than two probes.
    Source:
        Lin, Saad, Yang 2016; Ghorbani, Krishnan, Xiao 2019.
    """
    problem = Problem(model, loss, data, learning_rate_multipliers=learning_rate_multipliers, mode=mode, chunk=chunk)
    if probes < 2:
        raise BadInput("probes", "at least 2, whose spread is the error", probes)
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
    each = np.stack([_smoothed(grid, own, weight, spread) for own, weight in zip(nodes, weights, strict=True)])
    error = each.std(axis=0, ddof=1) / math.sqrt(probes)
    return Density(grid, each.mean(0), error, float(spread), problem.coordinates, spent, problem.mode)


def _smoothed(
    grid: NDArray[np.float64], nodes: NDArray[np.float64], weights: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    bumps = np.exp(-0.5 * ((grid[:, None] - nodes) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    found: NDArray[np.float64] = bumps @ weights
    return found


def _sampled(
    problem: Problem, of: Callable[[Tensor, Tensor], float], unit: str, relative: float, most: int, seed: int
) -> Measured:
    """The mean of a quantity over random signs, until its error is small or the products are spent."""
    generator = torch.Generator().manual_seed(seed)
    samples: list[float] = []
    while len(samples) < max(most, 2):
        signs = torch.randint(2, (problem.size,), generator=generator).to(problem.point) * 2 - 1
        samples.append(of(signs.double(), problem.hessian_product(signs).double()))
        count = len(samples)
        if count >= FEWEST_SAMPLES:
            bound = relative * abs(float(np.mean(samples)))
            if most_of_the_error(count) * mean_of(samples, unit).standard_error <= bound:
                break
    found = mean_of(samples, unit)
    reached = found.standard_error <= relative * abs(found.value)
    status = "ok" if reached else f"the error is above {relative:.0%} after {len(samples)} products: raise max_products"
    return Measured(found, problem.coordinates, len(samples), status, problem.mode)


def double_product(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Products of vectors in float64, computed in the model's precision."""
    return lambda vector: problem.hessian_product(vector.to(problem.point)).double()
