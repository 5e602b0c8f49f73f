"""Tensors that are complex, that are lazily negated or conjugated, or that are in another precision than the rest.

The truth is computed with plain autograd and a dense Hessian. In float32 the two differ by rounding, a few 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale import measure
from noisescale.errors import BadInput
from noisescale.measure import NoiseMonitor, Problem

GENERATOR = torch.Generator().manual_seed(0)
INPUTS, TARGETS = torch.randn(12, 4, generator=GENERATOR), torch.arange(12) % 3
NUMBERS = torch.randn(4, dtype=torch.complex64, generator=GENERATOR)
LOSS = nn.CrossEntropyLoss()


class Filter(nn.Module):
    """Multiplies by a constant, in the frequency domain if it is complex, and reads out."""

    def __init__(self, constant: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("constant", constant)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.constant.is_complex():
            x = torch.fft.ifft(torch.fft.fft(x) * self.constant).real + (x * self.constant).imag
        else:
            x = (x * self.constant).to(x.dtype)
        return self.fc(x).tanh()


class Moves(Filter):
    """Changes its constant in every pass."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.constant.mul_(1.1)
        return super().forward(x)


class Head64(nn.Module):
    """Computes its head in float64."""

    def __init__(self, frozen: bool = False, outputs: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.outputs = nn.Linear(4, 5), nn.Linear(5, 3).double(), outputs
        self.first.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh().to(self.head.weight.dtype)).to(self.outputs)


def negated_weight() -> nn.Module:
    model = Filter(torch.ones(4))
    model.fc.weight = nn.Parameter(torch.imag(torch.stack([NUMBERS, NUMBERS + 1, 2 * NUMBERS]).conj()))
    assert model.fc.weight.is_neg()
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "complex": lambda: Filter(NUMBERS.clone()),
    "conjugated": lambda: Filter(NUMBERS.conj()),
    "negated": lambda: Filter(torch.imag(NUMBERS.conj())),
    "negated weight": negated_weight,
    "float64 buffer": lambda: Filter(NUMBERS.real.double()),
    "float64 head": Head64,
    "float64 head and outputs": lambda: Head64(outputs=torch.float64),
    "float64 head on frozen float32": lambda: Head64(frozen=True),
}


def truth(model: nn.Module) -> tuple[float, float, float]:
    """Return tr Σ of a population, |G|² and the largest eigenvalue of the Hessian."""
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    rows = [
        torch.autograd.grad(LOSS(model(INPUTS[k : k + 1]), TARGETS[k : k + 1]), list(trained.values()))
        for k in range(len(INPUTS))
    ]
    gradients = torch.stack([torch.cat([part.flatten().double() for part in row]) for row in rows])

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([tensor.numel() for tensor in trained.values()])
        named = zip(trained.items(), parts, strict=True)
        values = {name: part.view(tensor.shape).to(tensor.dtype) for (name, tensor), part in named}
        return LOSS(functional_call(model, values, (INPUTS,)), TARGETS)

    point = torch.cat([tensor.detach().flatten().double() for tensor in trained.values()])
    hessian = torch.autograd.functional.hessian(loss, point).double()
    trace, mean = gradients.var(0).sum(), gradients.mean(0)
    return float(trace), float(mean @ mean), float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_models_are_measured_as_they_are(build: Callable[[], nn.Module]) -> None:
    trace, square, eigenvalue = truth(build())
    noise = measure.gradient_noise(build(), LOSS, (INPUTS, TARGETS))
    assert noise.trace_covariance.value == pytest.approx(trace, rel=1e-5)
    assert noise.gradient_norm_squared.value == pytest.approx(square, rel=1e-5)
    measured = measure.hessian_eigenvalues(build(), LOSS, (INPUTS, TARGETS))
    assert measured.values[0] == pytest.approx(eigenvalue, rel=1e-4)
    kernel = measure.ntk_eigenvalues(build(), LOSS, (INPUTS, TARGETS))
    assert math.isfinite(kernel.gauss_newton) and kernel.gauss_newton > 0


@pytest.mark.parametrize("name", ["complex", "conjugated", "negated", "float64 head"])
def test_a_copy_in_float64_computes_the_same(name: str) -> None:
    problem = Problem(MODELS[name](), LOSS, (INPUTS, TARGETS))
    double = problem.with_precision(torch.float64)
    assert {tensor.dtype for tensor in double.model.parameters()} == {torch.float64}
    outputs = double.outputs(double.point, INPUTS.double())
    torch.testing.assert_close(outputs.float(), problem.outputs(problem.point, INPUTS), rtol=1e-5, atol=1e-6)
    for buffer in double.model.buffers():
        assert buffer.dtype == (torch.complex128 if buffer.is_complex() else torch.float64)
        assert buffer.is_complex() == (name in ("complex", "conjugated"))


def test_a_loss_with_complex_weights_stays_complex_in_float64() -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weights", NUMBERS[:3].clone())

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs * self.weights).imag.square().sum(1).mean()

    problem = Problem(nn.Linear(4, 3), Loss(), (INPUTS, TARGETS))
    loss = float(problem.loss_at(problem.point, (INPUTS, TARGETS)))
    double = problem.with_precision(torch.float64)
    assert float(double.loss_at(double.point, (INPUTS.double(), TARGETS))) == pytest.approx(loss, rel=1e-5)


def test_complex_buffers_are_interpolated() -> None:
    ends = Filter(NUMBERS.clone()), Filter(3 * NUMBERS)
    line = measure.interpolate(*ends, LOSS, (INPUTS, TARGETS), [0.5, 1.0])
    for constant, loss in zip((2 * NUMBERS, 3 * NUMBERS), line.loss, strict=True):
        expected = LOSS(Filter(constant)(INPUTS), TARGETS).detach()
        assert loss == pytest.approx(float(expected), rel=1e-5)


class OfComplex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.real, self.imaginary = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.real(x.real) * self.imaginary(x.imag) if x.is_complex() else self.real(x)


COMPLEX = torch.randn(12, 4, dtype=torch.complex64, generator=GENERATOR)


@pytest.mark.parametrize(
    ("lazy", "resolved"),
    [
        (COMPLEX.conj(), COMPLEX.conj().resolve_conj()),
        (torch.imag(COMPLEX.conj()), torch.imag(COMPLEX.conj()).resolve_neg()),
    ],
)
def test_data_may_be_lazily_conjugated_or_negated(lazy: Tensor, resolved: Tensor) -> None:
    assert lazy.is_conj() or lazy.is_neg()
    values = []
    for inputs in (lazy, resolved):
        noise = measure.gradient_noise(OfComplex(), LOSS, (inputs, TARGETS))
        trace = measure.hessian_trace(OfComplex(), LOSS, (inputs, TARGETS))
        values.append((noise.trace_covariance.value, noise.gradient_norm_squared.value, trace.estimate.value))
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert values[0] != pytest.approx((0, 0, 0))


@pytest.mark.parametrize("part", [1j, 1.0])
def test_complex_data_that_differ_from_pass_to_pass_are_refused(part: complex) -> None:
    class Noisy:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            yield COMPLEX + part * torch.randn(12, 4), TARGETS

    with pytest.raises(BadInput, match="the same examples in every pass"):
        measure.gradient_noise(OfComplex(), LOSS, Noisy())
    measure.gradient_noise(OfComplex(), LOSS, [(COMPLEX, TARGETS)])


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda outputs: outputs.half(), "float16"),
        (lambda outputs: outputs.bfloat16(), "bfloat16"),
        (lambda outputs: torch.complex(outputs, outputs), "complex64"),
        (lambda outputs: outputs.argmax(-1), "int64"),
    ],
)
def test_outputs_of_other_numbers_are_refused(change: Any, dtype: str) -> None:
    class Changed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return change(super().forward(x))  # type: ignore[no-any-return]

    with pytest.raises(BadInput, match=rf"model: outputs in float32 or float64. Got: torch.{dtype}"):
        measure.gradient_noise(Changed(4, 3), lambda outputs, targets: outputs.abs().float().mean(), (INPUTS, TARGETS))


def test_the_message_names_both_precisions() -> None:
    with pytest.raises(BadInput, match=r"precision, torch.float32 or torch.float64. Got: torch.float16"):
        measure.gradient_noise(Head64(), LOSS, (INPUTS.half(), TARGETS))


@pytest.mark.parametrize(
    "constant", [NUMBERS, NUMBERS.conj(), torch.imag(NUMBERS.conj()), NUMBERS.real.double()], ids=str
)
def test_training_is_the_same_with_the_monitor(constant: Tensor) -> None:
    ends = []
    for watched in (False, True):
        model: Any = Moves(constant.clone() if not constant.is_neg() else torch.imag(NUMBERS.clone().conj()))
        monitor, optimizer = NoiseMonitor(model, LOSS, every=1), torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(4):
            optimizer.zero_grad()
            loss = LOSS(model(INPUTS), TARGETS)
            if watched:
                assert monitor.update(INPUTS, TARGETS)
            loss.backward()
            optimizer.step()
        ends.append([*model.parameters(), *model.buffers()])
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))
