"""Lanczos with full reorthogonalisation, for operators that are known by their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

# Residuals relative to the largest eigenvalue: what products in that precision can reach.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

# A direction that is left with less than this of its length after it was made orthogonal to the basis is rounding.
_BREAKDOWN = 1e-10


@dataclass(frozen=True)
class Ritz:
    """Eigenpairs of an operator within a Krylov space.

    Args:
        values: [k], in the order asked for.
        vectors: [P, k].
        residuals: [k], ‖Av − λv‖.
        products: spent.
        converged: Whether every residual is below its tolerance and no eigenvalue was seen to be missing.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool


def extreme_eigenpairs(
    product: Product, size: int, k: int, *, which: str, tolerance: float, most: int, like: Tensor, seed: int = 0
) -> Ritz:
    """The k extreme eigenvalues of a symmetric operator.

    A Krylov space holds each eigenvalue once, however often it occurs. So after convergence the space is left: from a
    fresh direction, orthogonal to all that was found, it is asked for one more eigenvalue, until none that lies further
    out comes up.

    Args:
        product: V ↦ Av.
        size: P.
        k: How many.
        which: "LA" largest, "SA" smallest, "LM" largest in size.
        tolerance: Of a residual, relative to the largest eigenvalue in size.
        most: Products at most.
        like: A tensor whose device is used; vectors are in float64.
        seed: Fixes the starting vector.

    Source:
        Parlett 1980, chapters 11 and 13: residual bounds, and the copies of an eigenvalue that one Krylov space misses.
    """
    generator = torch.Generator().manual_seed(seed)
    counted = _Counted(product, most)
    found = _Found(size, like)
    k, scale, complete = min(k, size), 0.0, False
    while not counted.is_spent and found.count < size:
        fresh = _krylov(counted, found.vectors, size, max(1, k - found.count), which, tolerance, generator, like)
        if fresh is None:
            break
        scale = max(scale, fresh.scale)
        outermost = float(_order(fresh.values, which)[0])
        # Only a value that has settled says that nothing lies further out.
        if found.count >= k and fresh.settled and _key(outermost, which) <= _key(found.kth(k, which), which):
            complete = True
            break
        found.add(fresh.values, fresh.vectors, fresh.residuals)
    complete = complete or found.count == size
    values, vectors, residuals = found.best(k, which)
    bound = tolerance * max(scale, 1e-300)
    converged = complete and len(values) == k and bool((residuals <= bound).all())
    return Ritz(values, vectors, residuals, counted.spent, converged)


def tridiagonal(product: Product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Diagonal [m] and off-diagonal [m − 1] of the operator in the Krylov space of a start, m ≤ steps."""
    basis = [start / start.norm()]
    diagonal, off = [], []
    for step in range(steps):
        image = product(basis[-1]).double()
        diagonal.append(basis[-1] @ image)
        image = _orthogonal(image, torch.stack(basis, 1))
        length = image.norm()
        if step == steps - 1 or length <= _BREAKDOWN * max(1.0, float(diagonal[-1].abs())):
            break
        off.append(length)
        basis.append(image / length)
    return torch.stack(diagonal), torch.stack(off) if off else diagonal[0].new_zeros(0)


def tridiagonal_matrix(diagonal: Tensor, off: Tensor) -> Tensor:
    """The symmetric matrices [..., m, m] of these diagonals [..., m] and off-diagonals [..., m − 1]."""
    return torch.diag_embed(diagonal) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)


class _Counted:
    """A product that counts itself."""

    def __init__(self, product: Product, most: int) -> None:
        self._product, self._most, self.spent = product, most, 0

    @property
    def is_spent(self) -> bool:
        return self.spent >= self._most

    def __call__(self, vector: Tensor) -> Tensor:
        self.spent += 1
        return self._product(vector).double()


class _Found:
    """Eigenpairs so far."""

    def __init__(self, size: int, like: Tensor) -> None:
        empty = torch.zeros(0, dtype=torch.float64, device=like.device)
        self.values, self.residuals = empty, empty
        self.vectors = torch.zeros(size, 0, dtype=torch.float64, device=like.device)

    @property
    def count(self) -> int:
        return len(self.values)

    def add(self, values: Tensor, vectors: Tensor, residuals: Tensor) -> None:
        self.values = torch.cat([self.values, values])
        self.vectors = torch.cat([self.vectors, vectors], 1)
        self.residuals = torch.cat([self.residuals, residuals])

    def kth(self, k: int, which: str) -> float:
        return float(_order(self.values, which)[k - 1])

    def best(self, k: int, which: str) -> tuple[Tensor, Tensor, Tensor]:
        places = torch.argsort(_keys(self.values, which), descending=True)[:k]
        return self.values[places], self.vectors[:, places], self.residuals[places]


@dataclass(frozen=True)
class _Krylov:
    """What one Krylov space gave: eigenpairs, the largest Ritz value in size, and whether they have settled."""

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    scale: float
    settled: bool


def _krylov(
    product: _Counted,
    known: Tensor,
    size: int,
    k: int,
    which: str,
    tolerance: float,
    generator: torch.Generator,
    like: Tensor,
) -> _Krylov | None:
    """Outermost eigenpairs of the operator orthogonal to known ones, once they have converged or products are spent."""
    start = torch.randn(size, generator=generator, dtype=torch.float64).to(like.device)
    start = _orthogonal(start, known)
    if start.norm() <= _BREAKDOWN:
        return None
    # Known vectors and the basis together: made orthogonal to one and then to the other, a direction gets back from the
    # second what the first took, and that grows with every step.
    whole, first = torch.cat([known, (start / start.norm()).unsqueeze(1)], 1), known.shape[1]
    diagonal: list[float] = []
    off: list[float] = []
    while True:
        image = product(whole[:, -1])
        diagonal.append(float(whole[:, -1] @ image))
        image = _orthogonal(image, whole)
        length = float(image.norm())
        values, inner = _tridiagonal_eigenpairs(diagonal, off)
        places = torch.argsort(_keys(values, which), descending=True)[:k]
        scale = max(float(values.abs().max()), 1e-300)
        residuals = (length * inner[-1, places]).abs()
        exhausted = length <= _BREAKDOWN * scale or whole.shape[1] >= size
        settled = exhausted or (len(values) >= k and bool((residuals <= tolerance * scale).all()))
        if settled or product.is_spent:
            vectors = whole[:, first:] @ inner[:, places].to(whole)
            residuals = (residuals * (0.0 if exhausted else 1.0)).to(whole)
            return _Krylov(values[places].to(whole), vectors, residuals, scale, settled)
        off.append(length)
        whole = torch.cat([whole, (image / length).unsqueeze(1)], 1)


def _tridiagonal_eigenpairs(diagonal: list[float], off: list[float]) -> tuple[Tensor, Tensor]:
    matrix = tridiagonal_matrix(*(torch.tensor(own, dtype=torch.float64) for own in (diagonal, off)))
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """A vector without its components along an orthonormal basis; twice, since once leaves rounding."""
    for _ in range(2):
        vector = vector - basis @ (basis.T @ vector)
    return vector


def _keys(values: Tensor, which: str) -> Tensor:
    return {"LA": values, "SA": -values, "LM": values.abs()}[which]


def _key(value: float, which: str) -> float:
    return {"LA": value, "SA": -value, "LM": abs(value)}[which]


def _order(values: Tensor, which: str) -> Tensor:
    return values[torch.argsort(_keys(values, which), descending=True)]
