"""The largest eigenvalue of R operators at once, by Lanczos without a stored basis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noisescale.measure.lanczos import tridiagonal_matrix
from noisescale.measure.packs.problem import Product

# The first look at the residuals; each of the next comes a quarter later, for a look costs what some products do.
_FIRST_LOOK, _LATER = 6, 1.25

# A Krylov space that has nothing more to give leaves a direction of rounding.
_BREAKDOWN = 1e-6


@dataclass(frozen=True)
class Largest:
    """The largest eigenvalue of each operator.

    Args:
        values: [R].
        residuals: [R], ‖Av − λv‖.
        converged: [R], whether the residual is below the tolerance.
        products: Spent, each one of all runs.
    """

    values: Tensor
    residuals: Tensor
    converged: Tensor
    products: int


def largest_eigenvalues(product: Product, start: Tensor, tolerance: float, most: int) -> Largest:
    """The largest eigenvalue of each of R symmetric operators, taken where its own residual first meets the tolerance.

    Without reorthogonalisation the recurrence finds copies of an eigenvalue that it has, but the largest Ritz value and
    the residual |β_m s_m| stay true to rounding, so three vectors are enough. What is reported of a run depends on no
    other run of the pack.

    Args:
        product: V ↦ AV, [R, P] each.
        start: [R, P].
        tolerance: Of a residual, relative to the largest Ritz value in size.
        most: Products at most.

    Source:
        Paige 1976: accuracy of the recurrence in finite precision.
    """
    current, before = start / start.norm(dim=1, keepdim=True), torch.zeros_like(start)
    diagonal: list[Tensor] = []
    off: list[Tensor] = []
    runs = len(start)
    found = Largest(start.new_zeros(runs), start.new_full((runs,), torch.inf), start.new_zeros(runs).bool(), 0)
    look = _FIRST_LOOK
    while len(diagonal) < most:
        image = product(current)
        if off:
            image = image - off[-1].unsqueeze(1).to(image) * before
        diagonal.append((image * current).sum(1, dtype=torch.float64))
        image = image - diagonal[-1].unsqueeze(1).to(image) * current
        length = image.norm(dim=1)
        scale = torch.stack(diagonal).abs().amax(0).clamp_min(1e-30)
        empty = length <= _BREAKDOWN * scale
        steps = len(diagonal)
        if steps >= look or steps == most or bool((empty & ~found.converged).any()):
            found = _looked(found, diagonal, off, torch.where(empty, 0.0, length.double()), tolerance)
            look = max(look, int(_LATER * steps) + 1)
            if bool(found.converged.all()):
                break
        off.append(torch.where(empty, 0.0, length.double()))
        # Of an exhausted space nothing is left, and zero is what stays.
        before, current = current, torch.where(empty.unsqueeze(1), 0.0, image / length.clamp_min(1e-30).unsqueeze(1))
    return found


def _looked(found: Largest, diagonal: list[Tensor], off: list[Tensor], last: Tensor, tolerance: float) -> Largest:
    """Values and residuals now, for the runs that had not converged."""
    whole = torch.stack(diagonal, 1)
    matrix = tridiagonal_matrix(whole, torch.stack(off, 1) if off else whole[:, :0])
    # NaN in one run must not fail the pack.
    finite = torch.isfinite(matrix).flatten(1).all(1)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrix, 0.0))
    residuals = torch.where(finite, (last * vectors[:, -1, -1]).abs(), torch.nan)
    bound = tolerance * values.abs().amax(1)
    here = torch.where(finite, values[:, -1], torch.nan)
    return Largest(
        torch.where(found.converged, found.values, here),
        torch.where(found.converged, found.residuals, residuals),
        found.converged | (residuals <= bound) | ~finite,
        len(diagonal),
    )
