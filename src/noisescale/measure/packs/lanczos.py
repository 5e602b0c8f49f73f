"""The largest eigenvalue of R operators at once, by the method of Lanczos without a stored basis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noisescale.measure.lanczos import tridiagonal_matrix
from noisescale.measure.packs.problem import Product

# Number of steps before the first check of the residuals, and the factor by which this number grows from check to
# check. A check takes as long as several products.
_FIRST_CHECK, _CHECK_GROWTH = 6, 1.25

# A new direction that is shorter than this, relative to the operator, consists of rounding errors. The Krylov space is
# then exhausted.
_BREAKDOWN = 1e-6


@dataclass(frozen=True)
class Largest:
    """The largest eigenvalue of each operator.

    Args:
        values: Eigenvalues, shape [R].
        residuals: ‖Av − λv‖, shape [R].
        converged: Whether each residual is below the tolerance, shape [R].
        products: Number of products. Each product multiplies all R operators.
    """

    values: Tensor
    residuals: Tensor
    converged: Tensor
    products: int


def largest_eigenvalues(product: Product, start: Tensor, tolerance: float, most: int) -> Largest:
    """Compute the largest eigenvalue of each of R symmetric operators.

    The recurrence without reorthogonalization repeats eigenvalues, but the largest Ritz value and its residual
    |β_m s_m| stay accurate. Therefore only three vectors are stored for each operator. Each value is taken at the first
    check at which its residual is below the tolerance, so it does not depend on the other operators.

    Args:
        product: The operators, a function from R vectors [R, P] to the R products [R, P].
        start: Starting vectors, shape [R, P].
        tolerance: Bound on the residuals, relative to the largest Ritz value in absolute value.
        most: Largest number of products.

    Returns:
        The eigenvalues.

    Source:
        Paige 1976, for the accuracy of the recurrence in finite precision.
    """
    current, before = start / start.norm(dim=1, keepdim=True), torch.zeros_like(start)
    diagonal: list[Tensor] = []
    off: list[Tensor] = []
    runs = len(start)
    largest = Largest(start.new_zeros(runs), start.new_full((runs,), torch.inf), start.new_zeros(runs).bool(), 0)
    check = _FIRST_CHECK
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
        if steps >= check or steps == most or bool((empty & ~largest.converged).any()):
            largest = _update(largest, diagonal, off, torch.where(empty, 0.0, length.double()), tolerance)
            check = max(check, int(_CHECK_GROWTH * steps) + 1)
            if bool(largest.converged.all()):
                break
        off.append(torch.where(empty, 0.0, length.double()))
        # An exhausted Krylov space has no further direction.
        before, current = current, torch.where(empty.unsqueeze(1), 0.0, image / length.clamp_min(1e-30).unsqueeze(1))
    return largest


def _update(largest: Largest, diagonal: list[Tensor], off: list[Tensor], last: Tensor, tolerance: float) -> Largest:
    """Update the values and residuals of the operators that have not converged."""
    entries = torch.stack(diagonal, 1)
    matrix = tridiagonal_matrix(entries, torch.stack(off, 1) if off else entries[:, :0])
    # A NaN in one run must not stop the measurement of the pack.
    finite = torch.isfinite(matrix).flatten(1).all(1)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrix, 0.0))
    residuals = torch.where(finite, (last * vectors[:, -1, -1]).abs(), torch.nan)
    bound = tolerance * values.abs().amax(1)
    current = torch.where(finite, values[:, -1], torch.nan)
    return Largest(
        torch.where(largest.converged, largest.values, current),
        torch.where(largest.converged, largest.residuals, residuals),
        largest.converged | (residuals <= bound) | ~finite,
        len(diagonal),
    )
