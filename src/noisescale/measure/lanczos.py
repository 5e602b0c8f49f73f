"""The method of Lanczos with full reorthogonalization, for operators given by their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

# Residuals that Lanczos' method reaches with products in each precision, relative to the largest eigenvalue.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

# A new direction that is shorter than this, relative to the operator, consists of rounding errors. The Krylov space is
# then exhausted.
_BREAKDOWN = 1e-10


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenpairs of an operator.

    Args:
        values: Eigenvalues, shape [k], the outermost first.
        vectors: Eigenvectors, shape [P, k].
        residuals: ‖Av − λv‖, shape [k].
        products: Number of products computed.
        converged: Whether every residual is below the tolerance and no eigenvalue is missing.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool


def extreme_eigenpairs(
    product: Product, size: int, k: int, *, which: str, tolerance: float, most: int, like: Tensor, seed: int = 0
) -> Ritz:
    """Compute the k outermost eigenpairs of a symmetric operator.

    A Krylov space contains a repeated eigenvalue only once. After convergence, the method therefore starts again in a
    random direction that is orthogonal to all eigenvectors so far. It ends when the new outermost eigenvalue is not
    further out than the k-th eigenvalue so far.

    Args:
        product: The operator, a function v ↦ Av.
        size: Length P of the vectors.
        k: Number of eigenpairs.
        which: Which eigenvalues: "LA" for the largest, "SA" for the smallest, "LM" for the largest in absolute value.
        tolerance: Bound on the residuals, relative to the largest eigenvalue in absolute value.
        most: Largest number of products.
        like: A tensor on the device to use. Vectors are in float64.
        seed: Seed of the starting vectors.

    Returns:
        The eigenpairs.

    Source:
        Parlett 1980, chapters 11 and 13, for the residual bounds and for repeated eigenvalues.
    """
    generator = torch.Generator().manual_seed(seed)
    counted = _CountedProduct(product, most)
    pairs = _Eigenpairs(size, like)
    k, scale, complete = min(k, size), 0.0, False
    while not counted.is_exhausted and pairs.count < size:
        space = _krylov(counted, pairs.vectors, size, max(1, k - pairs.count), which, tolerance, generator, like)
        if space is None:
            break
        scale = max(scale, space.scale)
        outermost = float(_order(space.values, which)[0])
        # Only a converged value shows that no eigenvalue lies further out.
        if pairs.count >= k and space.converged and _key(outermost, which) <= _key(pairs.kth(k, which), which):
            complete = True
            break
        pairs.add(space.values, space.vectors, space.residuals)
    complete = complete or pairs.count == size
    values, vectors, residuals = pairs.outermost(k, which)
    bound = tolerance * max(scale, 1e-300)
    converged = complete and len(values) == k and bool((residuals <= bound).all())
    return Ritz(values, vectors, residuals, counted.count, converged)


def tridiagonal(product: Product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Compute the tridiagonal form of an operator in a Krylov space of m ≤ `steps` dimensions.

    Args:
        product: The operator, a function v ↦ Av.
        start: Starting vector, shape [P].
        steps: Largest number of products.

    Returns:
        The diagonal, shape [m], and the off-diagonal, shape [m − 1].
    """
    basis = [start / start.norm()]
    diagonal, off = [], []
    for step in range(steps):
        image = product(basis[-1]).double()
        diagonal.append(basis[-1] @ image)
        image = _orthogonalize(image, torch.stack(basis, 1))
        length = image.norm()
        if step == steps - 1 or length <= _BREAKDOWN * max(1.0, float(diagonal[-1].abs())):
            break
        off.append(length)
        basis.append(image / length)
    return torch.stack(diagonal), torch.stack(off) if off else diagonal[0].new_zeros(0)


def tridiagonal_matrix(diagonal: Tensor, off: Tensor) -> Tensor:
    """Return symmetric tridiagonal matrices, shape [..., m, m].

    Args:
        diagonal: Diagonals, shape [..., m].
        off: Off-diagonals, shape [..., m − 1].
    """
    return torch.diag_embed(diagonal) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)


class _CountedProduct:
    """Counts the products with an operator."""

    def __init__(self, product: Product, most: int) -> None:
        self._product, self._most, self.count = product, most, 0

    @property
    def is_exhausted(self) -> bool:
        return self.count >= self._most

    def __call__(self, vector: Tensor) -> Tensor:
        self.count += 1
        return self._product(vector).double()


class _Eigenpairs:
    """Collects the eigenpairs of several Krylov spaces."""

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

    def outermost(self, k: int, which: str) -> tuple[Tensor, Tensor, Tensor]:
        order = torch.argsort(_keys(self.values, which), descending=True)[:k]
        return self.values[order], self.vectors[:, order], self.residuals[order]


@dataclass(frozen=True)
class _Krylov:
    values: Tensor
    vectors: Tensor
    residuals: Tensor
    scale: float  # largest Ritz value, in absolute value
    converged: bool


def _krylov(
    product: _CountedProduct,
    known: Tensor,
    size: int,
    k: int,
    which: str,
    tolerance: float,
    generator: torch.Generator,
    like: Tensor,
) -> _Krylov | None:
    """Compute the k outermost eigenpairs orthogonal to known eigenvectors, until they converge or products run out."""
    start = torch.randn(size, generator=generator, dtype=torch.float64).to(like.device)
    start = _orthogonalize(start, known)
    if start.norm() <= _BREAKDOWN:
        return None
    # Known vectors and Krylov vectors form one basis. Orthogonalizing against one set after the other would bring back
    # components along the first set, and the error would grow with every step.
    basis, known_count = torch.cat([known, (start / start.norm()).unsqueeze(1)], 1), known.shape[1]
    diagonal: list[float] = []
    off: list[float] = []
    while True:
        image = product(basis[:, -1])
        diagonal.append(float(basis[:, -1] @ image))
        image = _orthogonalize(image, basis)
        length = float(image.norm())
        values, ritz_vectors = _tridiagonal_eigenpairs(diagonal, off)
        order = torch.argsort(_keys(values, which), descending=True)[:k]
        scale = max(float(values.abs().max()), 1e-300)
        residuals = (length * ritz_vectors[-1, order]).abs()
        exhausted = length <= _BREAKDOWN * scale or basis.shape[1] >= size
        converged = exhausted or (len(values) >= k and bool((residuals <= tolerance * scale).all()))
        if converged or product.is_exhausted:
            vectors = basis[:, known_count:] @ ritz_vectors[:, order].to(basis)
            residuals = (residuals * (0.0 if exhausted else 1.0)).to(basis)
            return _Krylov(values[order].to(basis), vectors, residuals, scale, converged)
        off.append(length)
        basis = torch.cat([basis, (image / length).unsqueeze(1)], 1)


def _tridiagonal_eigenpairs(diagonal: list[float], off: list[float]) -> tuple[Tensor, Tensor]:
    matrix = tridiagonal_matrix(*(torch.tensor(entries, dtype=torch.float64) for entries in (diagonal, off)))
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def _orthogonalize(vector: Tensor, basis: Tensor) -> Tensor:
    """Subtract the components of a vector along an orthonormal basis, twice because of rounding."""
    for _ in range(2):
        vector = vector - basis @ (basis.T @ vector)
    return vector


def _keys(values: Tensor, which: str) -> Tensor:
    return {"LA": values, "SA": -values, "LM": values.abs()}[which]


def _key(value: float, which: str) -> float:
    return {"LA": value, "SA": -value, "LM": abs(value)}[which]


def _order(values: Tensor, which: str) -> Tensor:
    return values[torch.argsort(_keys(values, which), descending=True)]
