"""Gradients and curvature of every kind of module against differences in float64, or a refusal with its reason.

The reference for the Hessian is the central difference of gradients with a step of 1e-5, one weight at a time. Its
error is about 1e-9 of the largest entry, and below 1e-6 for normalizations of few units. The limit is 1e-6.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from noisescale import measure
from noisescale.errors import BadInput
from noisescale.families import NORMALIZATIONS, ModelOptions, family_factory
from noisescale.measure.problem import Problem

EXAMPLES, INPUTS, CLASSES, STEP = 8, 16, 3, 1e-5
LOSS = nn.CrossEntropyLoss()


class Recurrent(nn.Module):
    """A recurrent layer over four tokens, read out at the last token."""

    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = kind(4, 2, batch_first=True, **options)
        self.out = nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x.view(len(x), 4, 4))[0][:, -1])


class MultiHead(nn.Module):
    """`nn.MultiheadAttention` over four tokens."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out, self.need_weights = nn.Linear(4, CLASSES), need_weights

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.view(len(x), 4, 4)
        return self.out(self.attention(tokens, tokens, tokens, need_weights=self.need_weights)[0].mean(1))


class ScaledDotProduct(nn.Module):
    """`scaled_dot_product_attention` over four tokens."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.causal = nn.Linear(4, 12), nn.Linear(4, CLASSES), causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.view(len(x), 4, 4)).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal).mean(1))


class Encoder(nn.Module):
    """A layer of torch's transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True)
        self.out = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x.view(len(x), 4, 4)).mean(1))


def between(*layers: nn.Module, units: int = 6) -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, units), *layers, nn.Tanh(), nn.Linear(units, CLASSES))


def with_weight(change: Callable[..., nn.Module], units: int = 3, **options: Any) -> nn.Module:
    return nn.Sequential(change(nn.Linear(INPUTS, units), **options), nn.Tanh(), nn.Linear(units, CLASSES))


def orthogonal_square(kind: str) -> nn.Module:
    layer = parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map=kind)
    return nn.Sequential(nn.Linear(INPUTS, 6), layer, nn.Tanh(), nn.Linear(6, CLASSES))


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def family(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), family_factory(ModelOptions(**options))(4, (1, 4, 4), CLASSES))


# Smooth activations, because a difference of gradients is wrong where a unit crosses its kink.
NORMALIZED = {
    f"{kind}, {name}": lambda kind=kind, name=name: family(
        family=kind, depth=1, activation="tanh", normalization=name, **({"groups": 2} if name == "group" else {})
    )
    for kind in ("mlp", "convnet")
    for name in NORMALIZATIONS
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **NORMALIZED,
    "torch's batch": lambda: between(nn.BatchNorm1d(6)),
    "torch's layer": lambda: between(nn.LayerNorm(6)),
    "torch's RMS": lambda: between(nn.RMSNorm(6)),
    "torch's group": lambda: between(nn.GroupNorm(2, 6)),
    "torch's instance": lambda: between(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, affine=True), nn.Flatten()),
    "RNN": lambda: Recurrent(nn.RNN),
    "RNN, relu": lambda: Recurrent(nn.RNN, nonlinearity="relu"),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "LSTM, two layers": lambda: Recurrent(nn.LSTM, num_layers=2),
    "GRU, both directions": lambda: Recurrent(nn.GRU, bidirectional=True),
    "multi-head attention": lambda: MultiHead(True),
    "multi-head attention, fused": lambda: MultiHead(False),
    "dot products": lambda: ScaledDotProduct(False),
    "dot products, causal": lambda: ScaledDotProduct(True),
    "transformer": Encoder,
    "spectral norm": lambda: with_weight(parametrizations.spectral_norm),
    "orthogonal, Cayley": lambda: orthogonal_square("cayley"),
    "orthogonal, exponential": lambda: orthogonal_square("matrix_exp"),
    "orthogonal, Householder": lambda: with_weight(parametrizations.orthogonal, orthogonal_map="householder"),
    "weight norm": lambda: with_weight(parametrizations.weight_norm),
    "weight norm, old": lambda: with_weight(old_weight_norm),
}
# Modules that may be refused, with the reason. A later torch may be right, then the numbers decide.
REFUSED = {
    "weight norm": r"correct second derivative\. Got: .* 0\.parametrizations\.weight\.original\d",
    "weight norm, old": r"correct second derivative\. Got: .* 0\.weight_[gv]",
    "orthogonal, Householder": r"continuous in the weights.*jumps if 0\.parametrizations\.weight\.original",
}


def make(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = NETWORKS[name]().double()
        inputs, targets = torch.randn(EXAMPLES, INPUTS, dtype=torch.float64), torch.randint(CLASSES, (EXAMPLES,))
        model.train()(inputs)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "parametrizations" not in key:
                    parameter += 0.2 * torch.randn_like(parameter)
        model.train()(inputs)
    return model.eval(), inputs, targets


def gradient_at(model: nn.Module, inputs: Tensor, targets: Tensor, point: Tensor) -> Tensor:
    named = dict(model.named_parameters())
    point = point.clone().requires_grad_()
    parts = point.split([tensor.numel() for tensor in named.values()])
    parameters = {name: part.view(t.shape) for (name, t), part in zip(named.items(), parts, strict=True)}
    (gradient,) = torch.autograd.grad(LOSS(functional_call(model, parameters, (inputs,)), targets), point)
    return gradient


def differences(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    point = torch.cat([tensor.detach().flatten() for tensor in model.parameters()])
    return torch.stack(
        [
            (
                gradient_at(model, inputs, targets, point + STEP * unit)
                - gradient_at(model, inputs, targets, point - STEP * unit)
            )
            / (2 * STEP)
            for unit in torch.eye(len(point), dtype=torch.float64)
        ]
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_curvature_is_right_or_refused(name: str) -> None:
    model, inputs, targets = make(name)
    problem = Problem(copy.deepcopy(model) if name != "weight norm, old" else model, LOSS, (inputs, targets), chunk=5)
    try:
        top = measure.hessian_eigenvalues(problem)
    except BadInput as error:
        assert name in REFUSED
        for instrument in (measure.hessian_trace, measure.hessian_frobenius_norm, measure.hessian_spectral_density):
            with pytest.raises(BadInput, match=REFUSED[name]):
                instrument(model, LOSS, (inputs, targets))
        with pytest.raises(BadInput, match=REFUSED[name]):
            measure.noise_and_curvature(problem, 2)
        assert "model and loss" in str(error)
        return
    hessian = differences(model, inputs, targets)
    largest = float(torch.linalg.eigvalsh((hessian + hessian.T) / 2).abs().max())
    rows = torch.stack([problem.hessian_product(unit) for unit in torch.eye(problem.size, dtype=torch.float64)])
    torch.testing.assert_close(rows, hessian, rtol=0, atol=1e-6 * largest)
    assert top.values[0] == pytest.approx(float(torch.linalg.eigvalsh(rows)[-1]), rel=1e-7)


@pytest.mark.parametrize("name", NETWORKS)
def test_per_example_gradients(name: str) -> None:
    """First derivatives are right for every module, also where the curvature is refused."""
    model, inputs, targets = make(name)
    point = torch.cat([tensor.detach().flatten() for tensor in model.parameters()])
    parts = [slice(k, k + 1) for k in range(EXAMPLES)]
    expected = torch.stack([gradient_at(model, inputs[part], targets[part], point) for part in parts])
    gradients = torch.cat(list(Problem(model, LOSS, (inputs, targets), chunk=5).per_example_gradients()))
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-11)
    noise = measure.gradient_noise(model, LOSS, (inputs, targets))
    spread = (expected - expected.mean(0)).square().sum() / (EXAMPLES - 1)
    assert noise.trace_covariance.value == pytest.approx(float(spread), rel=1e-8)


@pytest.mark.parametrize("name", ["weight norm", "spectral norm", "LSTM", "multi-head attention", "dot products"])
def test_the_tangent_kernel(name: str) -> None:
    """The kernel needs only first derivatives of the outputs, so weight normalization has one."""
    model, inputs, targets = make(name)
    rows = []
    for row in model(inputs).flatten():
        gradients = torch.autograd.grad(row, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    jacobian = torch.stack(rows)
    kernel = measure.ntk_eigenvalues(model, LOSS, (inputs, targets), 2, chunk=5)
    np.testing.assert_allclose(kernel.eigenvalues, torch.linalg.svdvals(jacobian)[:2] ** 2 / EXAMPLES, rtol=1e-7)


@pytest.mark.parametrize("name", ["mlp, layer", "convnet, batch", "LSTM", "multi-head attention", "weight norm"])
def test_single_precision_is_checked_in_double_precision(name: str) -> None:
    model, inputs, targets = make(name)
    arguments = model.float(), LOSS, (inputs.float(), targets)
    if name in REFUSED:
        with pytest.raises(BadInput, match=REFUSED[name]):
            measure.hessian_eigenvalues(*arguments)
    else:
        assert measure.hessian_eigenvalues(*arguments).converged


class Bent(torch.autograd.Function):
    """The function x³ with the gradient 3x² and the second derivative 6x times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x**3

    @staticmethod
    def backward(ctx: Any, along: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # The value is 3x², but autograd sees a slope that is `factor` times as large.
        square = 3 * x.detach() ** 2 + ctx.factor * (3 * x**2 - 3 * x.detach() ** 2)
        return along * square, None


class Cubed(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return Bent.apply(x, self.factor)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("error", [0.0, 1e-3, 0.5])
def test_a_symmetric_error_of_one_operation(error: float, dtype: torch.dtype) -> None:
    """The Hessian stays symmetric, so only differences of gradients show the error. The ReLU has kinks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, 200), nn.ReLU(), nn.Linear(200, 4), Cubed(1 + error), nn.Linear(4, CLASSES))
    problem = Problem(model.to(dtype), LOSS, (torch.randn(80, INPUTS).to(dtype), torch.randint(CLASSES, (80,))))
    if error:
        with pytest.raises(BadInput, match=r"correct second derivative\. Got: a derivative of the gradient of"):
            measure.hessian_trace(problem)
    else:
        problem.check_curvature()


KINKED = {
    "relu": nn.ReLU,
    "leaky": nn.LeakyReLU,
    "hard tanh": nn.Hardtanh,
    "max": lambda: nn.Sequential(nn.Unflatten(1, (1, -1)), nn.MaxPool1d(2), nn.Flatten()),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("activation", KINKED)
@pytest.mark.parametrize("kind", ["wide", "at the kink", "trained"])
def test_kinks_are_not_refused(activation: str, kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    units = 300 if kind == "wide" else 20
    last = units // 2 if activation == "max" else units
    model = nn.Sequential(nn.Linear(INPUTS, units), KINKED[activation](), nn.Linear(last, CLASSES)).to(dtype)
    inputs, targets = torch.randn(70, INPUTS).to(dtype), torch.randint(CLASSES, (70,))
    if kind == "at the kink":
        inputs[:30] = 0  # With biases of zero, every unit is at its kink.
        nn.init.zeros_(model[0].bias)
    if kind == "trained":
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        for _ in range(100):
            optimizer.zero_grad()
            LOSS(model(inputs), targets).backward()
            optimizer.step()
    Problem(model, LOSS, (inputs, targets)).check_curvature()


def test_a_loss_fixed_in_single_precision_is_checked() -> None:
    """A loss that cannot be evaluated in float64 is checked in float32, with a coarser step."""
    torch.manual_seed(0)
    weight = torch.tensor([1.0, 2.0, 3.0])
    loss = lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, weight)  # noqa: E731
    inputs, targets = torch.randn(40, INPUTS), torch.randint(CLASSES, (40,))
    assert measure.hessian_eigenvalues(between(), loss, (inputs, targets)).converged
    with pytest.raises(BadInput, match="correct second derivative"):
        measure.hessian_eigenvalues(with_weight(parametrizations.weight_norm), loss, (inputs, targets))


def test_the_check_runs_once_for_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, targets = make("torch's layer")
    problem = Problem(model, LOSS, (inputs, targets))
    calls = []
    monkeypatch.setattr("noisescale.measure.problem.check_second_derivative", calls.append)
    measure.hessian_trace(problem)
    measure.hessian_eigenvalues(problem)
    assert len(calls) == 1


class Keeps(nn.Module):
    """A model that keeps a tensor of its forward pass, and may change its inputs in place."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.first, self.last, self.in_place = nn.Linear(INPUTS, 4), nn.Linear(4, CLASSES), in_place

    def forward(self, x: Tensor) -> Tensor:
        x = x.mul_(0.5) if self.in_place else x * 0.5
        self.features = self.first(x).tanh()
        return self.last(self.features)


def test_a_model_that_keeps_a_tensor_of_its_forward_pass() -> None:
    torch.manual_seed(0)
    model, inputs, targets = Keeps().double(), torch.randn(9, INPUTS).double(), torch.randint(CLASSES, (9,))
    before = measure.gradient_noise(model, LOSS, (inputs, targets))
    model(inputs)
    after = measure.gradient_noise(model, LOSS, (inputs, targets))
    assert model.features.requires_grad
    assert after.trace_covariance.value == before.trace_covariance.value
    line = measure.interpolate(model, model, LOSS, (inputs, targets), [0.5])
    assert line.loss[0] == pytest.approx(float(LOSS(model(inputs), targets).detach()))


def test_a_model_that_changes_its_inputs() -> None:
    torch.manual_seed(0)
    plain, changing = Keeps().double(), Keeps(in_place=True).double()
    changing.load_state_dict(plain.state_dict())
    inputs, targets = torch.randn(9, INPUTS).double(), torch.randint(CLASSES, (9,))
    given = inputs.clone()
    for instrument in (measure.gradient_noise, measure.hessian_trace, measure.hessian_eigenvalues):
        expected, got = (str(instrument(model, LOSS, (inputs, targets))) for model in (plain, changing))
        assert got == expected
    assert torch.equal(inputs, given)
