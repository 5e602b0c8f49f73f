"""Losses with class weights, ignored targets, label smoothing and example weights, against brute force in float64.

The reference is one call of the loss on all data. Its gradient comes from autograd, its Hessian from differences of it
(step 1e-5, so the error is about 1e-9 of the largest entry). Limits are a hundred times that error. In float32 the
limit is the rounding of a sum over the data, 1e-4.

The data are sorted by class or by length, so the first examples say nothing about the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from noisescale import measure
from noisescale.errors import BadInput
from noisescale.measure.problem import Problem

CLASSES, TOKENS, EXAMPLES = 3, 4, 90
CLASS_WEIGHTS = torch.tensor([1.0, 6.0, 0.2], dtype=torch.float64)
STEP = 1e-5

Loss = Callable[[Tensor, Tensor], Tensor]


class Tokens(nn.Module):
    """A model of sequences, with outputs [B, T, K]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return self.last(hidden + hidden.mean(1, keepdim=True))


class ClassesFirst(Tokens):
    """The same model with outputs [B, K, T], as `nn.CrossEntropyLoss` takes them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mT


def labelled() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model, inputs and labels that are sorted by class, with 70 of 90 examples in the first class."""
    labels = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor([70, 12, 8]))
    inputs = torch.randn(EXAMPLES, 4) + F.one_hot(labels, 4)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, CLASSES)), inputs, labels


def padded(model: nn.Module) -> tuple[nn.Module, Tensor, Tensor]:
    """Return sequences sorted by length, the longest first. The last 18 have no valid target."""
    lengths = torch.linspace(TOKENS + 0.9, 0, EXAMPLES).long()
    targets = torch.randint(CLASSES, (EXAMPLES, TOKENS))
    targets[torch.arange(TOKENS) >= lengths[:, None]] = -100
    return model, torch.randn(EXAMPLES, TOKENS, 3), targets


def graded() -> tuple[nn.Module, Tensor, Tensor]:
    """Return regression targets with a second column of weights, which are 1 first and then grow."""
    weights = torch.cat([torch.ones(70), torch.linspace(1, 9, EXAMPLES - 70)])
    targets = torch.stack([torch.randn(EXAMPLES), weights], 1)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(EXAMPLES, 4), targets


def flat_tokens(outputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), **options)


def masked_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    """Compute a mean that cannot be vectorized, because its shape depends on the data."""
    valid = targets != -100
    return F.cross_entropy(outputs[valid], targets[valid])


def safe_masked_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    """Compute a mean whose denominator is never 0, so that the loss of a padded example alone is 0."""
    valid = (targets != -100).to(outputs)
    losses = F.cross_entropy(outputs.mT, targets.clamp_min(0), reduction="none")
    return (losses * valid).sum() / valid.sum().clamp_min(1)


def example_weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    values, weights = targets.unbind(1)
    return (weights * (outputs[:, 0] - values) ** 2).sum() / weights.sum()


def example_scaled(outputs: Tensor, targets: Tensor) -> Tensor:
    """Compute a plain mean of losses that are multiplied by weights."""
    values, weights = targets.unbind(1)
    return (weights * (outputs[:, 0] - values) ** 2).mean()


def log_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.NLLLoss(CLASS_WEIGHTS.to(outputs), ignore_index=2)(outputs.log_softmax(1), targets)


CASES: dict[str, tuple[Callable[[], tuple[nn.Module, Tensor, Tensor]], Loss]] = {
    "class weights": (labelled, nn.CrossEntropyLoss(CLASS_WEIGHTS)),
    "label smoothing": (labelled, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "class weights, smoothing": (labelled, nn.CrossEntropyLoss(CLASS_WEIGHTS, label_smoothing=0.2)),
    "ignored class": (labelled, nn.CrossEntropyLoss(ignore_index=0)),
    "ignored, weights, smoothing": (
        labelled, lambda o, t: F.cross_entropy(o, t, CLASS_WEIGHTS, ignore_index=2, label_smoothing=0.1),
    ),
    "log probabilities": (labelled, log_probabilities),
    "tokens": (lambda: padded(ClassesFirst()), nn.CrossEntropyLoss()),
    "tokens, class weights": (lambda: padded(ClassesFirst()), nn.CrossEntropyLoss(CLASS_WEIGHTS)),
    "tokens, flat": (lambda: padded(Tokens()), flat_tokens),
    "tokens, mask": (lambda: padded(Tokens()), masked_tokens),
    "tokens, safe mask": (lambda: padded(Tokens()), safe_masked_tokens),
    "example weights": (graded, example_weighted),
    "scaled examples": (graded, example_scaled),
}  # fmt: skip


@dataclass(frozen=True)
class BruteForce:
    """A model, its loss and data, and the derivatives of one call of the loss on all data."""

    model: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor

    @property
    def arguments(self) -> tuple[nn.Module, Loss, tuple[Tensor, Tensor]]:
        return self.model, self.loss, (self.inputs, self.targets)

    @property
    def point(self) -> Tensor:
        return torch.cat([tensor.detach().flatten() for tensor in self.model.parameters()])

    def gradient(self, point: Tensor, part: slice = slice(None)) -> Tensor:
        point = point.clone().requires_grad_()
        named = dict(self.model.named_parameters())
        split = point.split([tensor.numel() for tensor in named.values()])
        parameters = {name: v.view(t.shape) for (name, t), v in zip(named.items(), split, strict=True)}
        outputs = functional_call(self.model, parameters, (self.inputs[part],))
        (gradient,) = torch.autograd.grad(self.loss(outputs, self.targets[part]), point)
        return gradient

    @cached_property
    def hessian(self) -> Tensor:
        unit = torch.eye(len(self.point), dtype=torch.float64)
        rows = [
            (self.gradient(self.point + STEP * v) - self.gradient(self.point - STEP * v)) / (2 * STEP) for v in unit
        ]
        return torch.stack(rows)

    def terms(self) -> Tensor:
        """Return n w_i ∇ℓ_i/Σw for each example, shape [n, P]. The test checks that their mean is the gradient."""
        n = len(self.inputs)
        weights = torch.tensor([reference_weight(self.loss, self.targets, k) for k in range(n)], dtype=torch.float64)
        rows = [
            weights[k] * self.gradient(self.point, slice(k, k + 1)) if weights[k] else torch.zeros_like(self.point)
            for k in range(n)
        ]
        return torch.stack(rows) * n / weights.sum()


def reference_weight(loss: Loss, targets: Tensor, k: int) -> float:
    """Return the weight of an example by its definition in each loss."""
    if loss in (example_weighted,):
        return float(targets[k, 1])
    if targets.is_floating_point():
        return 1.0
    if targets.dim() == 2:
        weighted = isinstance(loss, nn.CrossEntropyLoss) and loss.weight is not None
        valid = targets[k][targets[k] != -100]
        return float(CLASS_WEIGHTS[valid].sum()) if weighted else float(len(valid))
    target = int(targets[k])
    plain = isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None
    ignored = loss.ignore_index if isinstance(loss, nn.CrossEntropyLoss) else 2
    return 0.0 if target == ignored else 1.0 if plain else float(CLASS_WEIGHTS[target])


def make(name: str, flipped: bool = False) -> BruteForce:
    build, loss = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model, inputs, targets = build()
        model = model.double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    order = torch.arange(len(inputs)).flip(0) if flipped else slice(None)
    inputs, targets = inputs.double()[order], targets[order]
    return BruteForce(model.eval(), loss, inputs, targets.double() if targets.is_floating_point() else targets)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_gradients_and_noise(name: str, flipped: bool) -> None:
    case = make(name, flipped)
    gradient, terms = case.gradient(case.point), case.terms()
    torch.testing.assert_close(terms.mean(0), gradient, rtol=1e-9, atol=1e-12)
    for chunk in (37,) if flipped else (256, 37):
        problem = Problem(*case.arguments, chunk=chunk)
        with torch.no_grad():
            assert problem.loss() == pytest.approx(float(case.loss(case.model(case.inputs), case.targets)), rel=1e-11)
        torch.testing.assert_close(problem.gradient(), gradient, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(torch.cat(list(problem.per_example_gradients())), terms, rtol=1e-8, atol=1e-10)
        noise = measure.gradient_noise(problem)
        assert noise.gradient_norm_squared.value == pytest.approx(float(gradient @ gradient), rel=1e-9)
        spread = float((terms - gradient).square().sum()) / (EXAMPLES - 1)
        assert noise.trace_covariance.value == pytest.approx(spread, rel=1e-9)
    assert measure.gradient_covariance(problem).trace == pytest.approx(spread, rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_curvature(name: str) -> None:
    case = make(name)
    values = torch.linalg.eigvalsh(case.hessian)
    problem = Problem(*case.arguments, chunk=37)
    top = measure.hessian_eigenvalues(problem, 2)
    np.testing.assert_allclose(top.values, values.flip(0)[:2], atol=1e-7 * float(values.abs().max()))
    rows = torch.stack([problem.hessian_product(v) for v in torch.eye(problem.size, dtype=torch.float64)])
    torch.testing.assert_close(rows, case.hessian, rtol=0, atol=1e-7 * float(values.abs().max()))
    trace = measure.hessian_trace(problem, max_products=40).estimate
    assert abs(trace.value - float(values.sum())) < 4.5 * trace.standard_error
    assert measure.ntk_eigenvalues(problem).gauss_newton > 0


def test_the_gauss_newton_matrix_has_the_weights() -> None:
    """For a linear model, the Gauss-Newton matrix is the Hessian."""
    case = make("class weights")
    linear = nn.Linear(4, CLASSES).double()
    case = BruteForce(linear, case.loss, case.inputs, case.targets)
    kernel = measure.ntk_eigenvalues(*case.arguments, chunk=37)
    assert kernel.gauss_newton == pytest.approx(float(torch.linalg.eigvalsh(case.hessian)[-1]), rel=1e-7)
    inputs = torch.cat([case.inputs, torch.ones(EXAMPLES, 1).double()], 1)
    expected = torch.linalg.eigvalsh(inputs.T @ inputs / EXAMPLES)[-1]
    assert kernel.eigenvalues[0] == pytest.approx(float(expected), rel=1e-8)


def test_the_first_examples_do_not_decide() -> None:
    """Class weights that first matter at example 70 give |G|² and λ_max of the weighted loss, not of a plain mean."""
    case = make("class weights")
    weighted = measure.gradient_noise(*case.arguments).gradient_norm_squared.value
    plain = measure.gradient_noise(case.model, nn.CrossEntropyLoss(), (case.inputs, case.targets))
    assert weighted == pytest.approx(float(case.gradient(case.point).square().sum()), rel=1e-9)
    assert abs(math.log(weighted / plain.gradient_norm_squared.value)) > 0.3


@pytest.mark.parametrize("name", ["class weights", "tokens, flat", "tokens, mask"])
def test_batches_in_any_order(name: str) -> None:
    case, generator = make(name), torch.Generator().manual_seed(0)

    class Shuffled:
        def __iter__(self) -> Any:
            for part in torch.randperm(EXAMPLES, generator=generator).split(25):
                yield case.inputs[part], case.targets[part]

    expected = measure.gradient_noise(*case.arguments)
    shuffled = measure.gradient_noise(case.model, case.loss, Shuffled())
    assert shuffled.trace_covariance.value == pytest.approx(expected.trace_covariance.value, rel=1e-9)
    assert shuffled.gradient_norm_squared.value == pytest.approx(expected.gradient_norm_squared.value, rel=1e-9)


def test_more_outputs_than_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("class weights")
    expected = Problem(*case.arguments).gradient()
    monkeypatch.setattr("noisescale.measure.loss_weights._KEPT_NUMBERS", 100)
    torch.testing.assert_close(Problem(*case.arguments, chunk=16).gradient(), expected, rtol=1e-10, atol=1e-13)
    with pytest.raises(BadInput, match="loss: the mean over the batch"):
        Problem(case.model, lambda o, t: F.cross_entropy(o, t) + o.mean() ** 2, (case.inputs, case.targets), chunk=16)


@pytest.mark.parametrize("name", ["class weights", "ignored class", "tokens"])
def test_single_precision(name: str) -> None:
    """A trained model in float32, whose slopes are partly rounding errors."""
    case = make(name)
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter *= 6
    exact = measure.gradient_noise(*case.arguments)
    weight = getattr(case.loss, "weight", None)
    loss = nn.CrossEntropyLoss(None if weight is None else weight.float(), ignore_index=case.loss.ignore_index)  # type: ignore[attr-defined]
    single = measure.gradient_noise(case.model.float(), loss, (case.inputs.float(), case.targets))
    for quantity in ("trace_covariance", "gradient_norm_squared"):
        assert getattr(single, quantity).value == pytest.approx(getattr(exact, quantity).value, rel=1e-4)


def test_an_exact_fit_has_weights() -> None:
    """At an exact fit all slopes are zero, but not the curvature."""
    case = make("example weights")
    with torch.no_grad():
        targets = torch.cat([case.model(case.inputs), case.targets[:, 1:]], 1)
    case = BruteForce(case.model, case.loss, case.inputs, targets)
    top = measure.hessian_eigenvalues(*case.arguments)
    assert top.values[0] == pytest.approx(float(torch.linalg.eigvalsh(case.hessian)[-1]), rel=1e-6)


def test_noise_of_weighted_batches() -> None:
    """In evaluation mode batches have their share of the loss; in training mode each batch counts the same."""
    case = make("class weights")
    batches = list(zip(case.inputs.split(30), case.targets.split(30), strict=True))
    whole = measure.batch_gradient_noise(case.model, case.loss, batches, EXAMPLES, mode="eval")
    expected = case.gradient(case.point).square().sum()
    assert whole.gradient_norm_squared.value == pytest.approx(float(expected), rel=1e-9)
    steps = measure.batch_gradient_noise(case.model, case.loss, batches, EXAMPLES)
    mean = torch.stack([case.gradient(case.point, slice(k, k + 30)) for k in range(0, EXAMPLES, 30)]).mean(0)
    assert steps.gradient_norm_squared.value == pytest.approx(float(mean.square().sum()), rel=1e-9)


def test_the_line_counts_valid_targets() -> None:
    case = make("ignored class")
    line = measure.interpolate(case.model, case.model, case.loss, (case.inputs, case.targets), [0.5], chunk=16)
    with torch.no_grad():
        outputs = case.model(case.inputs)
    valid = case.targets != 0
    assert line.loss[0] == pytest.approx(float(case.loss(outputs, case.targets)), rel=1e-10)
    assert line.accuracy[0] == pytest.approx(float((outputs.argmax(1) == case.targets)[valid].double().mean()))


REFUSED: dict[str, tuple[Loss, str]] = {
    "a sum": (nn.CrossEntropyLoss(reduction="sum"), r"the mean over the batch.*a sum\?"),
    "a root": (lambda o, t: F.cross_entropy(o, t) / len(o) ** 0.5, "the mean over the batch"),
    "statistics of the batch": (lambda o, t: F.cross_entropy(o - o.mean(0), t), "the mean over the batch"),
    "pairs": (lambda o, t: F.cross_entropy(o @ o.T, torch.arange(len(o))), "the mean over the batch"),
    "weights from outputs": (
        lambda o, t: (o[:, 0].exp() * F.cross_entropy(o, t, reduction="none")).sum() / o[:, 0].exp().sum(),
        "the mean over the batch",
    ),
    "a late sum": (
        lambda o, t: F.cross_entropy(o, t) + (t == 2).sum() * o.square().mean(),
        "the mean over the batch",
    ),
    "nothing counted": (nn.CrossEntropyLoss(weight=torch.zeros(CLASSES).double()), "at least one example"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_loss_that_is_no_mean_is_refused(name: str) -> None:
    loss, message = REFUSED[name]
    case = make("class weights")
    for instrument in (measure.gradient_noise, measure.hessian_eigenvalues):
        with pytest.raises(BadInput, match=message):
            instrument(case.model, loss, (case.inputs, case.targets))


def test_batches_of_other_shapes_are_refused() -> None:
    case = make("tokens, flat")
    batches = [(case.inputs[:20], case.targets[:20]), (case.inputs[20:40, :3], case.targets[20:40, :3])]
    with pytest.raises(BadInput, match="pad them"):
        measure.gradient_noise(case.model, case.loss, batches)


def test_a_batch_without_a_valid_target_is_refused_in_training_mode() -> None:
    case = make("ignored class")
    batches = list(zip(case.inputs.split(50), case.targets.split(50), strict=True))
    with pytest.raises(BadInput, match="an example that the loss counts"):
        measure.batch_gradient_noise(case.model, case.loss, batches)
