"""The instruments beside their peers, at equal work; part of `make instruments`.

Everything has a known answer: Hessians are computed densely in float64, and noise scales belong to planted gradients.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisescale import measure
from noisescale.families import ModelOptions, family_factory

RESULTS = Path(__file__).parent / "results" / "instruments.md"
LOSS = nn.CrossEntropyLoss()


# --- a trained network and its dense Hessian ------------------------------------------------------------------------


def trained(seed: int, steps: int = 200) -> tuple[nn.Module, Tensor, Tensor]:
    """A convnet of 1,170 parameters after some training, in float64."""
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
    named = dict(model.named_parameters())
    sizes = [one.numel() for one in named.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = zip(named.items(), vector.split(sizes), strict=True)
        own = {name: part.view(one.shape) for (name, one), part in parts}
        return LOSS(torch.func.functional_call(model, own, (inputs,)), targets)

    point = torch.cat([one.detach().flatten() for one in named.values()])
    return torch.func.hessian(loss)(point)


class Quadratic(nn.Module):
    """½wᵀHw, whose Hessian is H."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.weight, self._matrix = nn.Parameter(torch.zeros(len(matrix)).double()), matrix

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 * (self.weight @ (self._matrix @ self.weight))


def quadratic(matrix: Tensor) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], tuple[Tensor, Tensor]]:
    one = torch.ones(1, 1).double()
    return Quadratic(matrix), lambda outputs, _: outputs.mean(), (one, one)


class Counted:
    """A dense matrix whose products are counted."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.spent = matrix, 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.spent += 1
        return self.matrix @ vector


# --- the largest eigenvalue: error against products -----------------------------------------------------------------


def ours_top(matrix: Tensor, seed: int, tolerance: float) -> tuple[float, int, bool]:
    found = measure.hessian_eigenvalues(*quadratic(matrix), tolerance=tolerance, seed=seed)
    return float(found.values[0]), found.products, found.converged


def arpack_top(matrix: Tensor, seed: int, tolerance: float) -> tuple[float, int, bool]:
    """What curvlinops documents: its operator handed to SciPy's `eigsh`."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    product = Counted(matrix)
    size = len(matrix)
    operator = LinearOperator((size, size), lambda v: product(torch.from_numpy(v.ravel())).numpy(), dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(size)
    value = eigsh(operator, k=1, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)[0]
    return float(value), product.spent, True


def eigenthings_top(matrix: Tensor, seed: int, tolerance: float) -> tuple[float, int, bool]:
    import hessian_eigenthings as peer

    product = Counted(matrix)
    operator = peer.LambdaOperator(product, len(matrix), dtype=torch.float64)
    found = peer.lanczos(operator, k=1, tol=tolerance, which="LA", seed=seed)
    return float(found.eigenvalues[0]), product.spent, bool(found.converged.all())


def eigenthings_long_top(matrix: Tensor, seed: int, tolerance: float) -> tuple[float, int, bool]:
    """The same with as many iterations as it needs, which its default of 20 for one eigenvalue is not."""
    import hessian_eigenthings as peer

    for most in (20, 40, 80, 160):
        product = Counted(matrix)
        operator = peer.LambdaOperator(product, len(matrix), dtype=torch.float64)
        found = peer.lanczos(operator, k=1, tol=tolerance, which="LA", max_iter=most, seed=seed)
        if bool(found.converged.all()):
            break
    return float(found.eigenvalues[0]), product.spent, bool(found.converged.all())


@contextlib.contextmanager
def pyhessian_on(matrix: Tensor) -> Iterator[tuple[object, Counted]]:
    """PyHessian's own loops over products with a dense matrix, counted."""
    import pyhessian

    module: Any = sys.modules[pyhessian.hessian.__module__]
    product = Counted(matrix)
    before = module.hessian_vector_product

    def multiply(_gradients: object, _parameters: object, vectors: list[Tensor]) -> list[Tensor]:
        return [product(vectors[0])]

    module.hessian_vector_product = multiply
    net = nn.Linear(len(matrix), 1, bias=False).double()
    net.weight = nn.Parameter(net.weight.detach().flatten())
    flat = _Flat(net.weight)
    # Its vectors are of the default precision.
    torch.set_default_dtype(torch.float64)
    try:
        batch = torch.zeros(1, len(matrix)).double(), torch.zeros(1).double()
        yield module.hessian(flat, lambda outputs, targets: outputs.sum(), data=batch, cuda=False), product
    finally:
        torch.set_default_dtype(torch.float32)
        module.hessian_vector_product = before


class _Flat(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).square()


def pyhessian_top(matrix: Tensor, seed: int, tolerance: float) -> tuple[float, int, bool]:
    torch.manual_seed(seed)
    with pyhessian_on(matrix) as (peer, product):
        values, _ = peer.eigenvalues(maxIter=1000, tol=tolerance, top_n=1)  # type: ignore[attr-defined]
        return float(values[0]), product.spent, True


def eigenvalue_rows(seeds: int) -> list[str]:
    cases: list[tuple[str, Callable[[Tensor, int, float], tuple[float, int, bool]], tuple[float, ...]]] = [
        ("this", ours_top, (1e-2, 1e-4, 1e-9)),
        ("curvlinops + ARPACK", arpack_top, (1e-2, 1e-4, 1e-9)),
        ("hessian-eigenthings", eigenthings_top, (1e-4,)),
        ("hessian-eigenthings, iterations doubled until converged", eigenthings_long_top, (1e-4, 1e-9)),
        ("PyHessian", pyhessian_top, (1e-3, 1e-6)),
    ]
    matrices = [dense_hessian(*trained(seed)) for seed in range(seeds)]
    rows = ["| tool | tolerance | products | error, median | error, worst | said converged, and was off by > 1 % |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for name, of, tolerances in cases:
        for tolerance in tolerances:
            errors, spent, wrong = [], [], 0
            for seed, matrix in enumerate(matrices):
                truth = float(torch.linalg.eigvalsh(matrix)[-1])
                value, products, converged = of(matrix, seed, tolerance)
                errors.append(abs(value / truth - 1))
                spent.append(products)
                wrong += converged and errors[-1] > 0.01
            cells = f"{statistics.median(spent):.0f} | {statistics.median(errors):.0e} | {max(errors):.0e}"
            rows.append(f"| {name} | {tolerance:.0e} | {cells} | {wrong} of {seeds} |")
    return rows


# --- the trace: coverage of its error -------------------------------------------------------------------------------


def trace_rows(seeds: int) -> list[str]:
    model, inputs, targets = trained(0)
    matrix = dense_hessian(model, inputs, targets)
    truth, size = float(matrix.trace()), len(matrix)

    def ours(seed: int) -> tuple[float, float, float, int]:
        found = measure.hessian_trace(*quadratic(matrix), seed=seed)
        return found.estimate.value, found.estimate.low, found.estimate.high, found.products

    def eigenthings(method: str, products: int) -> Callable[[int], tuple[float, float, float, int]]:
        import hessian_eigenthings as peer

        def run(seed: int) -> tuple[float, float, float, int]:
            product = Counted(matrix)
            operator = peer.LambdaOperator(product, size, dtype=torch.float64)
            found = peer.trace(operator, num_matvecs=products, method=method, seed=seed)
            half = 1.96 * found.stderr
            return found.estimate, found.estimate - half, found.estimate + half, product.spent

        return run

    def pyhessian(seed: int) -> tuple[float, float, float, int]:
        torch.manual_seed(seed)
        with pyhessian_on(matrix) as (peer, product):
            samples = peer.trace()  # type: ignore[attr-defined]
            return float(np.mean(samples)), math.nan, math.nan, product.spent

    rows = ["| tool | products | relative RMSE | bias | coverage of its 95 % interval |", "|---|---|---|---|---|"]
    for name, of in (
        ("this, to 5 %", ours),
        ("hessian-eigenthings, Hutchinson, 30 products", eigenthings("hutchinson", 30)),
        ("hessian-eigenthings, Hutch++, 30 products", eigenthings("hutch++", 30)),
        ("PyHessian, its default stopping rule", pyhessian),
    ):
        found = np.array([of(seed) for seed in range(seeds)])
        errors = found[:, 0] / truth - 1
        covered = np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))
        coverage = "no interval" if np.isnan(found[:, 1]).all() else f"{covered:.3f}"
        cells = f"{np.median(found[:, 3]):.0f} | {np.sqrt(np.mean(errors**2)):.3f} | {errors.mean():+.3f} | {coverage}"
        rows.append(f"| {name} | {cells} |")
    return rows


# --- per-example gradients ------------------------------------------------------------------------------------------


def plain_convnet(width: int) -> nn.Module:
    """Of modules that every peer knows."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(width * 49, 10),
    )  # fmt: skip


def gradient_rows(rounds: int) -> list[str]:
    examples = 128
    torch.manual_seed(1)
    inputs, targets = torch.randn(examples, 1, 14, 14), torch.randint(10, (examples,))
    rows = ["| tool | width | seconds | memory, MiB | largest error |", "|---|---|---|---|---|"]
    for width in (8, 32):

        def ours(width: int = width) -> Tensor:
            from noisescale.measure.problem import Problem

            problem = Problem(plain_convnet(width), LOSS, (inputs, targets), chunk=examples)
            return torch.cat(list(problem.per_example_gradients()))

        def backpack_(width: int = width) -> Tensor:
            from backpack import backpack, extend
            from backpack.extensions import BatchGrad

            net, loss = extend(plain_convnet(width)), extend(nn.CrossEntropyLoss(reduction="sum"))
            with backpack(BatchGrad()):
                loss(net(inputs), targets).backward()
            return torch.cat([one.grad_batch.flatten(1) for one in net.parameters()], 1)

        def opacus_(width: int = width) -> Tensor:
            from opacus.grad_sample import GradSampleModule

            net = GradSampleModule(plain_convnet(width), loss_reduction="sum")
            nn.functional.cross_entropy(net(inputs), targets, reduction="sum").backward()
            return torch.cat([one.grad_sample.flatten(1) for one in net.parameters()], 1)

        net = plain_convnet(width)
        truth = torch.stack([_single(net, inputs[k : k + 1], targets[k : k + 1]) for k in range(examples)])
        for name, of in (("this", ours), ("BackPACK", backpack_), ("Opacus", opacus_)):
            found = of()
            error = float((found - truth).abs().max() / truth.abs().max())
            times = []
            for _ in range(rounds):
                began = time.perf_counter()
                of()
                times.append(time.perf_counter() - began)
            rows.append(f"| {name} | {width} | {statistics.median(times):.3f} | {_memory(of):.0f} | {error:.0e} |")
    return rows


def _single(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    found = torch.autograd.grad(LOSS(net(inputs), targets), list(net.parameters()))
    return torch.cat([one.flatten() for one in found])


def _memory(of: Callable[[], object]) -> float:
    """The most that tensors took at once, in MiB, by torch's own profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        of()
    now = most = 0
    for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most / 2**20


# --- the noise scale online -----------------------------------------------------------------------------------------


class Smoothed:
    """Bias-corrected exponential averages of two quantities, and their ratio."""

    def __init__(self, decay: float) -> None:
        self._decay, self._sums, self._weight = decay, np.zeros(2), 0.0

    def add(self, top: float, bottom: float) -> float:
        self._sums = self._decay * self._sums + (1 - self._decay) * np.array([top, bottom])
        self._weight = self._decay * self._weight + (1 - self._decay)
        return float(self._sums[0] / self._sums[1])


def estimators(parts: int, size: int) -> dict[str, Callable[[Tensor], float]]:
    """In the form of three peers: from the gradients of `parts` parts of `size` examples, [parts, P], to a scale."""
    whole = parts * size
    averages = {"k-diffusion": Smoothed(0.9998), "GPT-NeoX": Smoothed(0.99), "AdaptDL": Smoothed(0.999**parts)}

    def two_sizes(gradients: Tensor) -> tuple[float, float]:
        small = float(gradients.square().sum(1).mean())
        large = float(gradients.mean(0).square().sum())
        return (small - large) / (1 / size - 1 / whole), (whole * large - size * small) / (whole - size)

    def one_part(gradients: Tensor) -> tuple[float, float]:
        small, large = float(gradients[0].square().sum()), float(gradients.mean(0).square().sum())
        return (small - large) / (1 / size - 1 / whole), (whole * large - size * small) / (whole - size)

    def clipped(gradients: Tensor) -> tuple[float, float]:
        top, bottom = two_sizes(gradients)
        return max(top, 1e-6), max(bottom, 0.0)

    of = {"k-diffusion": two_sizes, "GPT-NeoX": one_part, "AdaptDL": clipped}
    return {name: lambda g, name=name: averages[name].add(*of[name](g)) for name in averages}  # type: ignore[misc]


def noise_rows(seeds: int, steps: int, drift: bool) -> list[str]:
    """Per-example gradients N(G, I) in 50 dimensions; where they drift, |G| falls to a tenth along the way."""
    dimension, parts, size = 50, 4, 16
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        model = nn.Linear(dimension, 1, bias=False).double()
        monitor = measure.NoiseMonitor(model, lambda outputs, _: outputs.mean(), every=1, parts=parts)
        peers = estimators(parts, size)
        last: dict[str, float] = {}
        for step in range(steps):
            length = 10 ** (-step / (steps - 1)) if drift else 1.0
            gradient = length * torch.ones(dimension, dtype=torch.float64) / math.sqrt(dimension)
            batch = torch.randn(parts * size, dimension, generator=generator, dtype=torch.float64) + gradient
            monitor.update(batch, batch[:, :1])
            means = batch.view(parts, size, dimension).mean(1)
            for name, of in peers.items():
                last[name] = of(means)
        truth = dimension / length**2
        now = monitor.estimate()
        assert now is not None
        scale = now.gradient_noise_scale
        found.setdefault("this", []).append((scale.value / truth, scale.low / truth, scale.high / truth))
        for name, value in last.items():
            found.setdefault(name, []).append((value / truth, math.nan, math.nan))
    rows = []
    for name, values in found.items():
        own = np.array(values)
        ratio = own[:, 0]
        usable = ratio[np.isfinite(ratio) & (ratio > 0)]
        covered = np.mean((own[:, 1] <= 1) & (own[:, 2] >= 1))
        coverage = f"{covered:.3f}" if np.isfinite(own[:, 1]).any() else "no interval"
        unusable = 1 - len(usable) / len(ratio)
        rmse = np.sqrt(np.mean(np.log(usable) ** 2)) if len(usable) else math.nan
        middle = np.median(usable) - 1 if len(usable) else math.nan
        kind = "falling" if drift else "constant"
        rows.append(f"| {kind} | {steps} | {name} | {middle:+.2f} | {rmse:.2f} | {unusable:.2f} | {coverage} |")
    return rows


def main() -> None:
    """Write all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrices", type=int, default=20)
    parser.add_argument("--traces", type=int, default=500)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with contextlib.redirect_stdout(io.StringIO()):
        eigenvalues, traces = eigenvalue_rows(chosen.matrices), trace_rows(chosen.traces)
    gradients = gradient_rows(chosen.rounds)
    noise = ["| \\|G\\| | measurements | estimator | median error | RMSE of the log | unusable | coverage |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for drift in (False, True):
        for steps in (32, 300):
            noise += noise_rows(chosen.streams, steps, drift)
    text = "\n".join(
        [
            "# The instruments beside their peers",
            "",
            "Generated by `make instruments`, with the versions of the extra `peers`. One thread; load before",
            f"{load:.1f}.",
            "",
            "## The largest eigenvalue of the Hessian",
            "",
            f"{chosen.matrices} trained convnets of about a thousand parameters; products with the dense Hessian in",
            "float64, so that only the algorithms differ. Errors are relative.",
            "",
            *eigenvalues,
            "",
            "## The trace",
            "",
            f"One of those Hessians, {chosen.traces} seeds.",
            "",
            *traces,
            "",
            "## Per-example gradients",
            "",
            "A convnet of two layers on 128 images of 14×14, float32, against one backward pass an example; medians of",
            f"{chosen.rounds}; the model is built within the time.",
            "",
            *gradients,
            "",
            "## The gradient noise scale online",
            "",
            f"Planted gradients N(G, 1) in 50 dimensions, batches of 64 in four parts, {chosen.streams} streams. The",
            "peers' estimators are written out in their form: exponential averages with their decay of the two",
            "quantities from two batch sizes (k-diffusion 0.9998, GPT-NeoX 0.99 with one part, AdaptDL 0.999 to the",
            "number of parts, cut at 0). Errors are relative to the truth at the last step. Unusable: not finite or",
            "negative. Of the falling kind \\|G\\| falls to a tenth along the stream.",
            "",
            *noise,
        ]
    )
    chosen.results.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
