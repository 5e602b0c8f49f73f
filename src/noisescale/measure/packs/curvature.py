"""Curvature of a pack: the largest eigenvalue and the trace of each Hessian, and of each tangent kernel."""

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
from noisescale.measure.sampling_error import FEWEST_SAMPLES, most_of_the_error

Bounded = dict[str, Tensor]

# Products after which what was found is reported, with the error it has.
_MOST_PRODUCTS = 200

# As in `hessian_trace`: the relative error at which a run has enough samples.
_RELATIVE_ERROR = 0.05


def lambda_max(snapshot: Snapshot) -> Bounded:
    """The largest eigenvalue of the Hessian: an eigenvalue lies within the residual above the value."""
    return _largest(snapshot, snapshot.problem.hessian_products(), "lambda_max")


def ntk_lambda_max(snapshot: Snapshot) -> Bounded:
    """The largest eigenvalue of the empirical tangent kernel JMJᵀ/n over examples and outputs."""
    return _largest(snapshot, snapshot.problem.tangent_products(), "ntk_lambda_max")


def hessian_trace(snapshot: Snapshot) -> Bounded:
    """tr H: exact for plain ReLU MLPs; else E zᵀHz over random signs z, each run with as many as its error asks for.

    Source:
        Hutchinson 1990.
    """
    exact = snapshot.problem.exact_hessian_trace()
    if exact is not None:
        return {"hessian_trace": exact, "hessian_trace_low": exact, "hessian_trace_high": exact}
    problem, generator = snapshot.problem, torch.Generator().manual_seed(0)
    value, half = (problem.point.new_full((problem.runs,), math.nan, dtype=torch.float64) for _ in range(2))
    open_ = torch.arange(problem.runs, device=problem.point.device)
    recorded, product, samples = open_, problem.hessian_products(), value.new_zeros(0, problem.runs)
    while len(samples) < _MOST_PRODUCTS and len(open_):
        if 2 * len(open_) <= len(recorded):
            # Runs that have enough are no longer paid for.
            recorded, product = open_, problem.of_runs(open_).hessian_products()
        signs = torch.randint(2, (problem.size,), generator=generator).to(problem.point) * 2 - 1
        image = product(signs.expand(len(recorded), -1))
        new = value.new_zeros(1, problem.runs)
        new[0, recorded] = (image * signs).sum(1, dtype=torch.float64)
        samples = torch.cat([samples, new])
        count = len(samples)
        if count < FEWEST_SAMPLES:
            continue
        own = samples[:, open_]
        error = own.std(0) / math.sqrt(count)
        value[open_] = own.mean(0)
        half[open_] = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error
        # A run beyond all numbers is not waited for.
        short = most_of_the_error(count) * error > _RELATIVE_ERROR * own.mean(0).abs()
        open_ = open_[short & own[-1].isfinite()]
    return {"hessian_trace": value, "hessian_trace_low": value - half, "hessian_trace_high": value + half}


def _largest(snapshot: Snapshot, product: Product, name: str) -> Bounded:
    found = largest_eigenvalues(product, snapshot.start, TOLERANCE[snapshot.start.dtype], _MOST_PRODUCTS)
    high = torch.where(found.converged, found.values + found.residuals, torch.inf)
    # A Ritz value is never above the largest eigenvalue; one that has not converged bounds nothing from above.
    return {name: found.values, f"{name}_low": found.values, f"{name}_high": torch.where(high.isnan(), torch.nan, high)}
