"""Every instrument compared with dense matrices in float64, on a table of small networks."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from networks import LOSSES, NETWORKS, make_case
from torch import Tensor, nn

from noisescale import measure
from noisescale.measure.lanczos import extreme_eigenpairs
from noisescale.measure.problem import Problem
from noisescale.parameterizations import build_table, describe_parameters

ALL = [(network, loss) for network in NETWORKS for loss in LOSSES]


def multipliers(model: nn.Module) -> dict[str, float | Tensor]:
    """Return multipliers that are nowhere 1. In one tensor, they differ from row to row."""
    fixed: dict[str, float | Tensor] = {
        name: 0.3 + 0.5 * place for place, (name, _) in enumerate(model.named_parameters())
    }
    name, tensor = next((name, tensor) for name, tensor in model.named_parameters() if tensor.dim() > 1)
    rows = torch.linspace(0.5, 2.0, len(tensor), dtype=torch.float64).view(-1, *(1,) * (tensor.dim() - 1))
    return {**fixed, name: rows}


def root(model: nn.Module, given: dict[str, float | Tensor] | None) -> Tensor:
    """Return the diagonal of M^½."""
    parts = [
        (
            torch.ones_like(tensor)
            if given is None
            else torch.as_tensor(given[name], dtype=tensor.dtype).expand_as(tensor)
        ).flatten()
        for name, tensor in model.named_parameters()
    ]
    return torch.cat(parts).sqrt()


@pytest.mark.parametrize("scaled", [pytest.param(False, marks=pytest.mark.full), True])
@pytest.mark.parametrize(("network", "loss"), ALL)
def test_eigenvalues_trace_and_norm(network: str, loss: str, scaled: bool) -> None:
    case = make_case(network, loss)
    given = multipliers(case.model) if scaled else None
    half = root(case.model, given)
    dense = half[:, None] * case.hessian() * half
    exact = torch.linalg.eigvalsh(dense)
    settings = {"learning_rate_multipliers": given, "chunk": 7}
    top = measure.hessian_eigenvalues(case.model, case.loss, case.data, 4, **settings)
    assert top.converged and top.coordinates == ("optimizer" if scaled else "module")
    np.testing.assert_allclose(top.values, exact.flip(0)[:4], rtol=1e-8, atol=1e-8 * float(exact[-1]))
    low = measure.hessian_eigenvalues(case.model, case.loss, case.data, 2, "SA", **settings)
    np.testing.assert_allclose(low.values, exact[:2], rtol=1e-8, atol=1e-8 * float(exact[-1]))
    images = dense @ torch.as_tensor(top.vectors)
    np.testing.assert_allclose(images, top.vectors * top.values, atol=1e-7 * float(exact[-1]))
    trace = measure.hessian_trace(case.model, case.loss, case.data, max_products=200, **settings)
    assert abs(trace.estimate.value - float(dense.trace())) < 4.5 * trace.estimate.standard_error
    norm = measure.hessian_frobenius_norm(case.model, case.loss, case.data, max_products=200, **settings)
    assert abs(norm.estimate.value - float(dense.norm())) < 4.5 * norm.estimate.standard_error


@pytest.mark.parametrize("scaled", [pytest.param(False, marks=pytest.mark.full), True])
@pytest.mark.parametrize(("network", "loss"), ALL)
def test_gradients_noise_and_covariance(network: str, loss: str, scaled: bool) -> None:
    case = make_case(network, loss)
    given = multipliers(case.model) if scaled else None
    expected = case.gradients() * root(case.model, given)
    problem = Problem(case.model, case.loss, case.data, learning_rate_multipliers=given, chunk=7)
    gradients = torch.cat(list(problem.per_example_gradients()))
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(problem.gradient(), expected.mean(0), rtol=1e-11, atol=1e-12)
    centred = expected - expected.mean(0)
    sigma = centred.T @ centred / (len(expected) - 1)
    settings = {"learning_rate_multipliers": given, "chunk": 7}
    noise = measure.gradient_noise(case.model, case.loss, case.data, **settings)
    assert noise.trace_covariance.is_exact and noise.gradient_norm_squared.is_exact
    assert noise.trace_covariance.value == pytest.approx(float(sigma.trace()), rel=1e-11)
    assert noise.gradient_norm_squared.value == pytest.approx(float(expected.mean(0).square().sum()), rel=1e-11)
    covariance = measure.gradient_covariance(case.model, case.loss, case.data, 3, **settings)
    np.testing.assert_allclose(covariance.eigenvalues, torch.linalg.eigvalsh(sigma).flip(0)[:3], rtol=1e-9)
    np.testing.assert_allclose(
        sigma @ torch.as_tensor(covariance.vectors), covariance.vectors * covariance.eigenvalues, atol=1e-9
    )
    assert covariance.trace == pytest.approx(float(sigma.trace()), rel=1e-11)
    assert covariance.frobenius_norm == pytest.approx(float(sigma.norm()), rel=1e-11)


@pytest.mark.parametrize(("network", "loss"), ALL)
def test_the_tangent_kernel_and_the_gauss_newton_matrix(network: str, loss: str) -> None:
    case = make_case(network, loss)
    given = multipliers(case.model)
    jacobian = case.jacobian() * root(case.model, given)
    n = len(case.inputs)
    linearized = measure.ntk_eigenvalues(
        case.model, case.loss, case.data, 3, 0.9, learning_rate_multipliers=given, chunk=7
    )
    kernel = torch.linalg.eigvalsh(jacobian @ jacobian.T / n).flip(0)
    np.testing.assert_allclose(linearized.eigenvalues, kernel[:3], rtol=1e-8)
    outputs = case.outputs(case.point).detach()
    blocks = torch.stack(
        [
            torch.autograd.functional.hessian(lambda o, t=t: case.loss(o[None], t[None]), row)
            for row, t in zip(outputs, case.targets, strict=True)
        ]
    )
    rows = jacobian.view(n, -1, jacobian.shape[1])
    newton = torch.einsum("nip,nij,njq->pq", rows, blocks, rows) / n
    largest = float(torch.linalg.eigvalsh(newton)[-1])
    assert linearized.gauss_newton == pytest.approx(largest, rel=1e-8)
    assert linearized.largest_stable_rate == pytest.approx(2 * 1.9 / largest, rel=1e-8)
    assert linearized.converged


@pytest.mark.parametrize("network", ["mlp", pytest.param("attention", marks=pytest.mark.full)])
def test_the_density_integrates_to_one_and_to_the_trace(network: str) -> None:
    case = make_case(network)
    density = measure.hessian_spectral_density(case.model, case.loss, case.data, probes=60, steps=200)
    step = density.grid[1] - density.grid[0]
    assert density.density.sum() * step == pytest.approx(1.0, abs=1e-3)
    exact = torch.linalg.eigvalsh(case.hessian()).numpy()
    smooth = np.exp(-0.5 * ((density.grid[:, None] - exact) / density.width) ** 2).mean(1)
    smooth /= density.width * np.sqrt(2 * np.pi)
    scores = (density.density - smooth) / np.maximum(density.standard_error, 1e-3 * smooth.max())
    assert np.abs(scores).max() < 5


def test_chunks_change_nothing() -> None:
    case = make_case("convnet, batch")
    batches = [(case.inputs[start : start + 6], case.targets[start : start + 6]) for start in range(0, 20, 6)]
    single, parts = (Problem(case.model, case.loss, data) for data in (case.data, batches))
    vector = torch.randn(single.size, dtype=torch.float64)
    torch.testing.assert_close(single.hessian_product(vector), parts.hessian_product(vector))
    assert single.loss() == pytest.approx(parts.loss(), rel=1e-12)


def test_all_repeated_eigenvalues_are_computed() -> None:
    values = torch.tensor([5.0, 5.0, 5.0, 2.0, 2.0, 1.0, *[0.1] * 30], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(36, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    matrix = rotation @ torch.diag(values) @ rotation.T
    pairs = extreme_eigenpairs(lambda v: matrix @ v, 36, 5, which="LA", tolerance=1e-9, most=500, like=values)
    assert pairs.converged
    torch.testing.assert_close(pairs.values, values[:5], rtol=1e-9, atol=1e-9)


def test_converged_values_are_correct() -> None:
    """With too few products, `converged` is false. The residuals bound the error in any case."""
    case = make_case("mlp")
    exact = torch.linalg.eigvalsh(case.hessian()).flip(0).numpy()
    seen = set()
    for products in (1, 2, 4, 8, 16, 32, 64, 200):
        eigenvalues = measure.hessian_eigenvalues(case.model, case.loss, case.data, 3, max_products=products)
        assert eigenvalues.products <= products
        seen.add(eigenvalues.converged)
        for value, residual in zip(eigenvalues.values, eigenvalues.residuals, strict=True):
            assert np.abs(exact - value).min() <= residual + 1e-9
        if eigenvalues.converged:
            np.testing.assert_allclose(eigenvalues.values, exact[:3], rtol=1e-8)
        else:
            assert "not converged" in eigenvalues.status
    assert seen == {True, False}


def test_the_largest_rate_under_ntk_equals_that_of_the_explicit_network() -> None:
    """Compare f(x) = (σ0/√n) a·tanh((σ0/√d) Wx + b) + c, with the unmodified module and its multipliers."""
    torch.manual_seed(0)
    n, d, outputs = 7, 5, 3
    inputs, targets = torch.randn(30, d).double(), torch.randint(outputs, (30,))

    class Explicit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.b = nn.Parameter(torch.randn(n, d).double()), nn.Parameter(torch.randn(n).double())
            self.a, self.c = nn.Parameter(torch.randn(outputs, n).double()), nn.Parameter(torch.randn(outputs).double())

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.tanh(math.sqrt(2 / d) * x @ self.w.T + self.b)
            return math.sqrt(2 / n) * hidden @ self.a.T + self.c

    explicit = Explicit()
    plain = nn.Sequential(nn.Linear(d, n), nn.Tanh(), nn.Linear(n, outputs)).double()
    with torch.no_grad():
        plain[0].weight.copy_(math.sqrt(2 / d) * explicit.w)
        plain[0].bias.copy_(explicit.b)
        plain[2].weight.copy_(math.sqrt(2 / n) * explicit.a)
        plain[2].bias.copy_(explicit.c)
    reference = nn.Sequential(nn.Linear(d, n + 1), nn.Tanh(), nn.Linear(n + 1, outputs))
    rows = build_table("ntk", describe_parameters(plain, reference), 2.0)
    given = {row.name: row.multiplier for row in rows}
    # The first layer has the multiplier 2/d too, although its fan-in does not grow.
    assert given == pytest.approx({"0.weight": 2 / d, "0.bias": 1.0, "2.weight": 2 / n, "2.bias": 1.0})
    loss = nn.CrossEntropyLoss()
    for of in (
        lambda *problem, **setting: 2 / measure.hessian_eigenvalues(*problem, **setting).values[0],
        lambda *problem, **setting: measure.ntk_eigenvalues(*problem, momentum=0.9, **setting).largest_stable_rate,
        lambda *problem, **setting: measure.gradient_noise(*problem, **setting).gradient_noise_scale.value,
    ):
        with_multipliers = of(plain, loss, (inputs, targets), learning_rate_multipliers=given)
        assert with_multipliers == pytest.approx(of(explicit, loss, (inputs, targets)), rel=1e-8)
        assert with_multipliers != pytest.approx(of(plain, loss, (inputs, targets)), rel=1e-2)


class Streamed:
    """Batches that are created on demand. The class counts the batches that exist at the same time."""

    def __init__(self) -> None:
        self.alive = weakref.WeakSet[Tensor]()
        self.most = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(40):
            generator = torch.Generator().manual_seed(number)
            inputs = torch.randn(8, 6, generator=generator, dtype=torch.float64)
            self.alive.add(inputs)
            self.most = max(self.most, len(self.alive))
            yield inputs, torch.randint(3, (8,), generator=generator)


def test_data_can_be_larger_than_memory() -> None:
    """Only documented instruments hold more than a few batches. The results equal those on all data at once."""
    torch.manual_seed(0)
    model, loss, streamed = nn.Linear(6, 3).double(), nn.CrossEntropyLoss(), Streamed()
    complete = tuple(torch.cat(part) for part in zip(*streamed, strict=True))
    streamed.most = 0
    for of in (
        lambda data: measure.hessian_eigenvalues(model, loss, data).values[0],
        lambda data: measure.hessian_trace(model, loss, data).estimate.value,
        lambda data: measure.gradient_noise(model, loss, data, math.inf).trace_covariance.value,
        lambda data: measure.ntk_eigenvalues(model, loss, data).gauss_newton,
    ):
        assert of(streamed) == pytest.approx(of(complete), rel=1e-9)
    assert streamed.most <= 4


class Quadratic(nn.Module):
    """The loss ½wᵀHw, whose Hessian is H."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.weight, self.matrix = nn.Parameter(torch.zeros(len(matrix)).double()), matrix

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 * (self.weight @ (self.matrix @ self.weight))


SPECTRA = {
    "one large": torch.cat([torch.tensor([20.0]), torch.full((59,), 0.1)]).double(),
    "power law": (1 / torch.arange(1, 61)).double(),
    "flat": torch.linspace(0.5, 1.5, 60).double(),
    "negative too": torch.cat([torch.linspace(-0.5, 0, 40), torch.linspace(0, 4, 20)]).double(),
}


@pytest.mark.full
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_coverage_of_the_trace(spectrum: str) -> None:
    """Over 500 random bases and probes, intervals must cover although the stopping rule depends on the samples."""
    values, unit = SPECTRA[spectrum], torch.ones(1, 1).double()
    generator, covered = torch.Generator().manual_seed(0), 0
    for seed in range(500):
        basis = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64)).Q
        model = Quadratic(basis @ torch.diag(values) @ basis.T)
        trace = measure.hessian_trace(model, lambda outputs, _: outputs.mean(), (unit, unit), seed=seed).estimate
        covered += trace.low <= float(values.sum()) <= trace.high
    assert 0.92 <= covered / 500 <= 0.98


FLAT = {
    "flat": torch.linspace(0.1, 1.0, 300),
    "shifted": torch.linspace(0.5, 1.5, 300),
    "negative": -torch.linspace(0.5, 1.5, 300),
    "both signs": torch.linspace(-3.0, 1.0, 200),
    "lone smallest": torch.cat([torch.tensor([-0.01]), torch.linspace(0.2, 5.0, 250)]),
}


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("spectrum", FLAT)
def test_spectra_that_need_many_products(spectrum: str, which: str) -> None:
    """On these spectra, a basis that loses its orthogonality would give eigenvalues that do not exist."""
    values = FLAT[spectrum].double()
    size = len(values)
    basis = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0)).double()).Q
    matrix = basis @ torch.diag(values) @ basis.T
    pairs = extreme_eigenpairs(
        lambda v: matrix @ v, size, 3, which=which, tolerance=1e-9, most=2000, like=matrix, seed=1
    )
    keys = {"LA": values, "SA": -values, "LM": values.abs()}[which]
    truth = values[torch.argsort(keys, descending=True)[:3]]
    assert pairs.converged
    torch.testing.assert_close(pairs.values, truth, rtol=1e-8, atol=1e-8)
    residuals = (matrix @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0)
    torch.testing.assert_close(residuals, pairs.residuals, rtol=0.1, atol=1e-12)


@pytest.mark.parametrize("most", range(3, 40, 4))
def test_too_few_products_are_reported_as_not_converged(most: int) -> None:
    """Two largest values are equal. With few products only one is known, so the result must not be "converged"."""
    values = torch.cat([torch.tensor([2.0, 2.0, 1.0]), torch.linspace(0, 0.1, 60)]).double()
    basis = torch.linalg.qr(torch.randn(63, 63, generator=torch.Generator().manual_seed(0)).double()).Q
    matrix = basis @ torch.diag(values) @ basis.T
    pairs = extreme_eigenpairs(lambda v: matrix @ v, 63, 2, which="LA", tolerance=1e-4, most=most, like=matrix)
    right = torch.allclose(pairs.values, values[:2], rtol=1e-3)
    assert right or not pairs.converged
