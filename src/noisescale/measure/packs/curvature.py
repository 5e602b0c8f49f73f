"""Curvature of a pack: the traces of the Hessians, and the largest eigenvalues of Hessians and tangent kernels."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from noisescale.estimate import CONFIDENCE
from noisescale.measure.lanczos import TOLERANCE
from noisescale.measure.packs.lanczos import largest_eigenvalues
from noisescale.measure.packs.problem import Product
from noisescale.measure.packs.snapshot import Snapshot
from noisescale.measure.sampling_error import FEWEST_SAMPLES, error_safety_factor

Bounded = dict[str, Tensor]

# Largest number of products. A run that has not converged by then is reported with its current error.
_MOST_PRODUCTS = 200

# Relative error at which sampling stops for a run, as in `hessian_trace` on one model.
_RELATIVE_ERROR = 0.05


def lambda_max(snapshot: Snapshot) -> Bounded:
    """Measure the largest eigenvalue of the Hessian. An eigenvalue lies between the value and value + residual.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The value and its bounds by column name, shape [R] each.
    """
    return _largest(snapshot, snapshot.problem.hessian_products(), "lambda_max")


def ntk_lambda_max(snapshot: Snapshot) -> Bounded:
    """Measure the largest eigenvalue of the empirical tangent kernel JMJᵀ/n over examples and outputs.

    J is the Jacobian of the outputs, and the diagonal matrix M contains the rate multipliers.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The value and its bounds by column name, shape [R] each.
    """
    return _largest(snapshot, snapshot.problem.tangent_products(), "ntk_lambda_max")


def hessian_trace(snapshot: Snapshot) -> Bounded:
    """Measure tr H: exactly for plain ReLU MLPs, and otherwise as E zᵀHz over random signs z.

    Sampling stops for a run when its error is small.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The value and its interval by column name, shape [R] each.

    Source:
        Hutchinson 1990.
    """
    exact = snapshot.problem.exact_hessian_trace()
    if exact is not None:
        return {"hessian_trace": exact, "hessian_trace_low": exact, "hessian_trace_high": exact}
    problem, generator = snapshot.problem, torch.Generator().manual_seed(0)
    value, half_width = (problem.point.new_full((problem.runs,), math.nan, dtype=torch.float64) for _ in range(2))
    unfinished = torch.arange(problem.runs, device=problem.point.device)
    multiplied, product, samples = unfinished, problem.hessian_products(), value.new_zeros(0, problem.runs)
    while len(samples) < _MOST_PRODUCTS and len(unfinished):
        if 2 * len(unfinished) <= len(multiplied):
            # Half of the runs are finished. Leave them out of the products.
            multiplied, product = unfinished, problem.of_runs(unfinished).hessian_products()
        signs = torch.randint(2, (problem.size,), generator=generator).to(problem.point) * 2 - 1
        image = product(signs.expand(len(multiplied), -1))
        sample = value.new_zeros(1, problem.runs)
        sample[0, multiplied] = (image * signs).sum(1, dtype=torch.float64)
        samples = torch.cat([samples, sample])
        count = len(samples)
        if count < FEWEST_SAMPLES:
            continue
        unfinished_samples = samples[:, unfinished]
        mean, error = unfinished_samples.mean(0), unfinished_samples.std(0) / math.sqrt(count)
        value[unfinished] = mean
        half_width[unfinished] = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error
        # More samples do not help a run with infinite values.
        too_large = error_safety_factor(count) * error > _RELATIVE_ERROR * mean.abs()
        unfinished = unfinished[too_large & unfinished_samples[-1].isfinite()]
    return {"hessian_trace": value, "hessian_trace_low": value - half_width, "hessian_trace_high": value + half_width}


def _largest(snapshot: Snapshot, product: Product, name: str) -> Bounded:
    largest = largest_eigenvalues(product, snapshot.start, TOLERANCE[snapshot.start.dtype], _MOST_PRODUCTS)
    values = largest.values
    # A Ritz value bounds the largest eigenvalue from below. It gives an upper bound only after convergence.
    high = torch.where(largest.converged, values + largest.residuals, torch.inf)
    return {name: values, f"{name}_low": values, f"{name}_high": torch.where(high.isnan(), torch.nan, high)}
