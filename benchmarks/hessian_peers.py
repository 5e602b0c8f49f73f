"""Hessian eigenvalues and traces from this package and from other tools, on Hessians that are known densely."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from noisescale import measure
from noisescale.families import ModelOptions, family_factory

LOSS = nn.CrossEntropyLoss()


class TopEigenvalue(NamedTuple):
    """The largest eigenvalue from one tool."""

    value: float
    products: int
    converged: bool


class TraceEstimate(NamedTuple):
    """The trace from one tool, with the ends of its 95 % interval, or NaN if the tool has no interval."""

    value: float
    low: float
    high: float
    products: int


EigenvalueTool = Callable[[Tensor, int, float], TopEigenvalue]
TraceTool = Callable[[int], TraceEstimate]


def trained_network(seed: int, steps: int = 200) -> tuple[nn.Module, Tensor, Tensor]:
    """Train a convnet of 1,170 parameters in float64 and return it with its inputs and targets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family_factory(ModelOptions("convnet", depth=2, activation="tanh"))(8, (1, 6, 6), 5).double()
        inputs, targets = torch.randn(256, 1, 6, 6).double(), torch.randint(5, (256,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        for _ in range(steps):
            optimizer.zero_grad()
            LOSS(model(inputs), targets).backward()
            optimizer.step()
    return model.eval(), inputs, targets


def dense_hessian(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Compute the whole Hessian of the loss, shape [P, P]."""
    parameters = dict(model.named_parameters())
    sizes = [parameter.numel() for parameter in parameters.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = zip(parameters.items(), vector.split(sizes), strict=True)
        values = {name: part.view(parameter.shape) for (name, parameter), part in parts}
        return LOSS(torch.func.functional_call(model, values, (inputs,)), targets)

    point = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
    return torch.func.hessian(loss)(point)


class Quadratic(nn.Module):
    """The model ½wᵀHw, whose Hessian is H."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.weight, self._matrix = nn.Parameter(torch.zeros(len(matrix)).double()), matrix

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 * (self.weight @ (self._matrix @ self.weight))


def quadratic(matrix: Tensor) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], tuple[Tensor, Tensor]]:
    """Return model, loss and data of a problem whose Hessian is the matrix."""
    example = torch.ones(1, 1).double()
    return Quadratic(matrix), lambda outputs, _: outputs.mean(), (example, example)


class CountedProducts:
    """A dense matrix that counts its products with vectors."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.count = matrix, 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.count += 1
        return self.matrix @ vector


def noisescale_top(matrix: Tensor, seed: int, tolerance: float) -> TopEigenvalue:
    """Compute the largest eigenvalue with this package."""
    result = measure.hessian_eigenvalues(*quadratic(matrix), tolerance=tolerance, seed=seed)
    return TopEigenvalue(float(result.values[0]), result.products, result.converged)


def arpack_top(matrix: Tensor, seed: int, tolerance: float) -> TopEigenvalue:
    """Compute the largest eigenvalue as curvlinops documents: pass its operator to SciPy's `eigsh`."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    product = CountedProducts(matrix)
    size = len(matrix)
    operator = LinearOperator((size, size), lambda v: product(torch.from_numpy(v.ravel())).numpy(), dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(size)
    value = eigsh(operator, k=1, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)[0]
    return TopEigenvalue(float(value), product.count, True)


def eigenthings_top(matrix: Tensor, seed: int, tolerance: float, iterations: int | None = None) -> TopEigenvalue:
    """Compute the largest eigenvalue with hessian-eigenthings.

    Args:
        matrix: The Hessian.
        seed: Seed of the starting vector.
        tolerance: Relative tolerance.
        iterations: Largest number of Lanczos iterations, or None for the tool's default of 20.
    """
    import hessian_eigenthings as peer

    product = CountedProducts(matrix)
    operator = peer.LambdaOperator(product, len(matrix), dtype=torch.float64)
    limit = {} if iterations is None else {"max_iter": iterations}
    result = peer.lanczos(operator, k=1, tol=tolerance, which="LA", seed=seed, **limit)
    return TopEigenvalue(float(result.eigenvalues[0]), product.count, bool(result.converged.all()))


def eigenthings_long_top(matrix: Tensor, seed: int, tolerance: float) -> TopEigenvalue:
    """Compute the largest eigenvalue with hessian-eigenthings, and double the iterations until it converges."""
    for iterations in (20, 40, 80, 160):
        result = eigenthings_top(matrix, seed, tolerance, iterations)
        if result.converged:
            break
    return result


@contextlib.contextmanager
def pyhessian_on(matrix: Tensor) -> Iterator[tuple[Any, CountedProducts]]:
    """Let PyHessian multiply with a dense matrix, and count its products."""
    import pyhessian

    module: Any = sys.modules[pyhessian.hessian.__module__]
    product = CountedProducts(matrix)
    original = module.hessian_vector_product

    def multiply(_gradients: object, _parameters: object, vectors: list[Tensor]) -> list[Tensor]:
        return [product(vectors[0])]

    module.hessian_vector_product = multiply
    model = _FlatModel(nn.Parameter(torch.zeros(len(matrix)).double()))
    # PyHessian draws its vectors in the default precision.
    torch.set_default_dtype(torch.float64)
    try:
        batch = torch.zeros(1, len(matrix)).double(), torch.zeros(1).double()
        yield module.hessian(model, lambda outputs, targets: outputs.sum(), data=batch, cuda=False), product
    finally:
        torch.set_default_dtype(torch.float32)
        module.hessian_vector_product = original


class _FlatModel(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).square()


def pyhessian_top(matrix: Tensor, seed: int, tolerance: float) -> TopEigenvalue:
    """Compute the largest eigenvalue with PyHessian."""
    torch.manual_seed(seed)
    with pyhessian_on(matrix) as (peer, product):
        values, _ = peer.eigenvalues(maxIter=1000, tol=tolerance, top_n=1)
        return TopEigenvalue(float(values[0]), product.count, True)


EIGENVALUE_TOOLS: list[tuple[str, EigenvalueTool, tuple[float, ...]]] = [
    ("noisescale", noisescale_top, (1e-2, 1e-4, 1e-9)),
    ("curvlinops + ARPACK", arpack_top, (1e-2, 1e-4, 1e-9)),
    ("hessian-eigenthings", eigenthings_top, (1e-4,)),
    ("hessian-eigenthings, iterations doubled until converged", eigenthings_long_top, (1e-4, 1e-9)),
    ("PyHessian", pyhessian_top, (1e-3, 1e-6)),
]


def eigenvalue_table(seeds: int) -> list[str]:
    """Tabulate the error and the number of products for the largest eigenvalue of trained networks.

    Args:
        seeds: Number of networks.
    """
    matrices = [dense_hessian(*trained_network(seed)) for seed in range(seeds)]
    truths = [float(torch.linalg.eigvalsh(matrix)[-1]) for matrix in matrices]
    lines = [
        "| tool | tolerance | products | median error | largest error | converged but off by > 1 % |",
        "|---|---|---|---|---|---|",
    ]
    for name, tool, tolerances in EIGENVALUE_TOOLS:
        for tolerance in tolerances:
            results = [tool(matrix, seed, tolerance) for seed, matrix in enumerate(matrices)]
            errors = [abs(result.value / truth - 1) for result, truth in zip(results, truths, strict=True)]
            wrong = sum(result.converged and error > 0.01 for result, error in zip(results, errors, strict=True))
            products = statistics.median(result.products for result in results)
            cells = f"{products:.0f} | {statistics.median(errors):.0e} | {max(errors):.0e} | {wrong} of {seeds}"
            lines.append(f"| {name} | {tolerance:.0e} | {cells} |")
    return lines


def trace_tools(matrix: Tensor) -> dict[str, TraceTool]:
    """Return the tools that estimate the trace of a matrix, by name."""

    def noisescale(seed: int) -> TraceEstimate:
        result = measure.hessian_trace(*quadratic(matrix), seed=seed)
        return TraceEstimate(result.estimate.value, result.estimate.low, result.estimate.high, result.products)

    def eigenthings(method: str, products: int) -> TraceTool:
        import hessian_eigenthings as peer

        def run(seed: int) -> TraceEstimate:
            product = CountedProducts(matrix)
            operator = peer.LambdaOperator(product, len(matrix), dtype=torch.float64)
            result = peer.trace(operator, num_matvecs=products, method=method, seed=seed)
            half_width = 1.96 * result.stderr
            low, high = result.estimate - half_width, result.estimate + half_width
            return TraceEstimate(result.estimate, low, high, product.count)

        return run

    def pyhessian(seed: int) -> TraceEstimate:
        torch.manual_seed(seed)
        with pyhessian_on(matrix) as (peer, product):
            return TraceEstimate(float(np.mean(peer.trace())), math.nan, math.nan, product.count)

    return {
        "noisescale, to 5 %": noisescale,
        "hessian-eigenthings, Hutchinson, 30 products": eigenthings("hutchinson", 30),
        "hessian-eigenthings, Hutch++, 30 products": eigenthings("hutch++", 30),
        "PyHessian, its default stopping rule": pyhessian,
    }


def trace_table(seeds: int) -> list[str]:
    """Tabulate error, bias and coverage of the trace of one Hessian.

    Args:
        seeds: Number of estimates by each tool.
    """
    matrix = dense_hessian(*trained_network(0))
    truth = float(matrix.trace())
    lines = ["| tool | products | relative RMSE | bias | coverage of its 95 % interval |", "|---|---|---|---|---|"]
    for name, tool in trace_tools(matrix).items():
        values, low, high, products = np.array([tool(seed) for seed in range(seeds)]).T
        errors = values / truth - 1
        coverage = "no interval" if np.isnan(low).all() else f"{np.mean((low <= truth) & (truth <= high)):.3f}"
        cells = f"{np.median(products):.0f} | {np.sqrt(np.mean(errors**2)):.3f} | {errors.mean():+.3f} | {coverage}"
        lines.append(f"| {name} | {cells} |")
    return lines
