"""Wrong use gets one clear message, and a measured model is never changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from networks import make_case
from torch import Tensor, nn

from noisescale import measure
from noisescale.errors import BadInput

INSTRUMENTS: dict[str, Callable[..., Any]] = {
    "noise": measure.gradient_noise,
    "covariance": measure.gradient_covariance,
    "eigenvalues": measure.hessian_eigenvalues,
    "trace": measure.hessian_trace,
    "norm": measure.hessian_frobenius_norm,
    "density": measure.hessian_spectral_density,
    "kernel": measure.ntk_eigenvalues,
}
every = pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=INSTRUMENTS)


@every
def test_a_loss_that_sums_is_refused(instrument: Callable[..., Any]) -> None:
    case = make_case()
    with pytest.raises(BadInput, match=r"loss: the mean over the batch.*a sum\?"):
        instrument(case.model, nn.CrossEntropyLoss(reduction="sum"), case.data)
    with pytest.raises(BadInput, match="one number, the mean over the batch"):
        instrument(case.model, nn.CrossEntropyLoss(reduction="none"), case.data)


@every
def test_the_message_names_weights_that_are_not_finite(instrument: Callable[..., Any]) -> None:
    case = make_case()
    with torch.no_grad():
        case.model[1].weight[0, 0] = math.nan  # type: ignore[index]
    with pytest.raises(BadInput, match=r"NaN or infinity in 1\.weight"):
        instrument(case.model, case.loss, case.data)


@every
def test_a_model_without_gradients_is_refused(instrument: Callable[..., Any]) -> None:
    case = make_case()
    for parameter in case.model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(BadInput, match="at least one parameter that takes a gradient"):
        instrument(case.model, case.loss, case.data)


@every
def test_data_that_differ_from_pass_to_pass_are_refused(instrument: Callable[..., Any]) -> None:
    case = make_case()

    class Noisy:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            yield case.inputs + torch.randn_like(case.inputs), case.targets

    with pytest.raises(BadInput, match="the same examples in every pass"):
        instrument(case.model, case.loss, Noisy())
    with pytest.raises(BadInput, match="used several times"):
        instrument(case.model, case.loss, iter([case.data]))


@pytest.mark.parametrize("instrument", [measure.hessian_eigenvalues, measure.hessian_trace])
def test_dropout_that_is_left_on_is_refused(instrument: Callable[..., Any]) -> None:
    case = make_case()
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).double()
    instrument(
        model.train(), case.loss, case.data
    )  # The copy is evaluated without dropout, whatever the mode of the model.
    with pytest.raises(BadInput, match="switch dropout off"):
        instrument(model, case.loss, [case.data], mode="train")


def test_gradients_of_single_examples_do_not_exist_in_training_mode() -> None:
    from noisescale.measure.problem import Problem

    case = make_case("convnet, batch")
    problem = Problem(case.model, case.loss, [case.data], mode="train")
    with pytest.raises(BadInput, match="batch_gradient_noise"):
        next(problem.per_example_gradients())


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (lambda case: (case.inputs, case.targets[:5]), "as many targets as inputs"),
        (lambda case: (case.inputs[:0], case.targets[:0]), "at least one"),
        (lambda case: (case.inputs.float(), case.targets), "the model's precision"),
        (lambda case: [], "at least one"),
        (lambda case: 3, r"\(inputs, targets\)"),
    ],
)
def test_empty_data_are_refused(data: Callable[..., Any], named: str) -> None:
    case = make_case()
    with pytest.raises(BadInput, match=named):
        measure.gradient_noise(case.model, case.loss, data(case))


@pytest.mark.parametrize(
    ("multipliers", "named"),
    [({}, r"no 1\.weight"), ({"1.weight": -1.0}, "no 1.bias"), ({"other": 1.0}, "no 1.weight")],
)
def test_multipliers_must_fit(multipliers: dict[str, float], named: str) -> None:
    case = make_case()
    with pytest.raises(BadInput, match=named):
        measure.hessian_trace(case.model, case.loss, case.data, learning_rate_multipliers=multipliers)
    negative = {name: -1.0 for name, _ in case.model.named_parameters()}
    with pytest.raises(BadInput, match="numbers above 0"):
        measure.hessian_trace(case.model, case.loss, case.data, learning_rate_multipliers=negative)


@every
@pytest.mark.parametrize("mode", [True, False])
def test_the_model_is_not_changed(instrument: Callable[..., Any], mode: bool) -> None:
    case = make_case("convnet, batch")
    model = case.model.train(mode)
    before = copy.deepcopy(model.state_dict())
    instrument(model, case.loss, case.data)
    assert model.training == mode
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_frozen_parameter_is_left_out() -> None:
    case = make_case()
    case.model[1].weight.requires_grad_(False)  # type: ignore[index]
    rest = sum(one.numel() for one in case.model.parameters() if one.requires_grad)
    assert measure.hessian_eigenvalues(case.model, case.loss, case.data).vectors.shape == (rest, 1)


def test_float32_models_are_measured_in_float32() -> None:
    single, double = make_case(dtype=torch.float32), make_case()
    for name, tensor in single.model.state_dict().items():
        double.model.state_dict()[name].copy_(tensor)
    data = single.inputs.double(), single.targets
    rough = measure.hessian_eigenvalues(single.model, single.loss, single.data, 2)
    exact = measure.hessian_eigenvalues(double.model, double.loss, data, 2)
    assert rough.converged
    assert rough.values == pytest.approx(exact.values, rel=1e-3)


@every
@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets) + outputs.mean() ** 2,
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets) * 2 / len(outputs) ** 0.5,
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets.float()[:, None]),
        lambda outputs, targets: 0.5,
    ],
)
def test_a_loss_that_is_not_a_mean_is_refused(instrument: Callable[..., Any], loss: Any) -> None:
    """Per-example gradients and chunks would give another loss."""
    case = make_case()
    with pytest.raises(BadInput, match="loss"):
        instrument(case.model, loss, case.data)


@every
def test_random_flips_are_detected(instrument: Callable[..., Any]) -> None:
    """Flips do not change any sum over an image."""
    case, calls = make_case(), iter(range(1000))

    class Flipped:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            flip = torch.arange(len(case.inputs)) % (2 + next(calls) % 3) == 0
            yield torch.where(flip[:, None, None, None], case.inputs.flip(-1), case.inputs), case.targets

    with pytest.raises(BadInput, match="the same examples in every pass"):
        instrument(case.model, case.loss, Flipped())


def test_shuffled_batches_are_refused_only_in_training_mode() -> None:
    case, generator = make_case("convnet, batch"), torch.Generator().manual_seed(0)

    class Shuffled:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.randperm(len(case.inputs), generator=generator)
            for part in order.split(5):
                yield case.inputs[part], case.targets[part]

    whole = measure.hessian_eigenvalues(case.model, case.loss, case.data).values[0]
    shuffled = measure.hessian_eigenvalues(case.model, case.loss, Shuffled())
    assert shuffled.values[0] == pytest.approx(whole, rel=1e-8) and shuffled.mode == "eval"
    with pytest.raises(BadInput, match="in the same batches"):
        measure.hessian_eigenvalues(case.model, case.loss, Shuffled(), mode="train")


@every
def test_normalization_that_always_uses_the_batch_is_refused(instrument: Callable[..., Any]) -> None:
    case = make_case()
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
    ).double()
    with pytest.raises(BadInput, match=r"model: (outputs of an example|a model of inputs)"):
        instrument(model, case.loss, case.data)


@every
@pytest.mark.parametrize(
    ("data", "named"),
    [
        (lambda case: [case.inputs, case.targets], r"\(inputs, targets\)"),
        (lambda case: [{"x": case.inputs, "y": case.targets}], r"\(inputs, targets\)"),
        (lambda case: [(case.inputs.float(), case.targets)], "the model's precision"),
        (lambda case: [(case.inputs, case.targets[:3])], "as many targets as inputs"),
        (lambda case: (case.inputs[..., :3], case.targets), "a model of inputs of shape"),
        (lambda case: [case.data, (case.inputs * math.nan, case.targets)], "finite inputs"),
    ],
)
def test_data_of_an_unknown_form_are_refused(
    instrument: Callable[..., Any], data: Callable[..., Any], named: str
) -> None:
    case = make_case()
    with pytest.raises(BadInput, match=named):
        instrument(case.model, case.loss, data(case))


@pytest.mark.parametrize("population", ["all", True, -1, 3, 20.5, math.nan])
def test_an_impossible_population_is_refused(population: Any) -> None:
    case = make_case()
    with pytest.raises(BadInput, match="population"):
        measure.gradient_noise(case.model, case.loss, case.data, population)


def test_noise_in_training_mode_names_the_other_instrument() -> None:
    case = make_case("convnet, batch")
    with pytest.raises(BadInput, match="batch_gradient_noise"):
        measure.gradient_noise(case.model, case.loss, case.data, mode="train")


def test_two_gradients_have_no_error_bar() -> None:
    case = make_case()
    halves = [(case.inputs[:10], case.targets[:10]), (case.inputs[10:], case.targets[10:])]
    noise = measure.batch_gradient_noise(case.model, case.loss, halves)
    assert math.isinf(noise.gradient_noise_scale.standard_error) and math.isinf(noise.trace_covariance.high)
    assert "three" in noise.status and not noise.gradient_noise_scale.is_exact
    pair = measure.gradient_noise(case.model, case.loss, (case.inputs[:2], case.targets[:2]), math.inf)
    assert pair.gradient_noise_scale.interval == (0.0, math.inf)


@every
@pytest.mark.parametrize(
    ("wrap", "got"),
    [
        (lambda outputs, hidden: (outputs, hidden), "tuple"),
        (lambda outputs, hidden: [outputs], "list"),
        (lambda outputs, hidden: {"logits": outputs}, "dict"),
        (lambda outputs, hidden: None, "NoneType"),
    ],
)
def test_outputs_that_are_not_one_tensor_are_refused(instrument: Callable[..., Any], wrap: Any, got: str) -> None:
    case = make_case()

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = case.model

        def forward(self, x: Tensor) -> Any:
            return wrap(self.inner(x), x)

    with pytest.raises(BadInput, match=rf"^model: outputs that are one tensor\. Got: {got}\.$"):
        instrument(Wrapped(), case.loss, case.data)


def test_batches_of_a_finite_population() -> None:
    """For the whole population |G|² is exact, and per-example gradients of the same data give the same |G|²."""
    case = make_case()
    batches = list(zip(case.inputs.split(4), case.targets.split(4), strict=True))
    whole = measure.batch_gradient_noise(case.model, case.loss, batches, 20, mode="eval")
    single = measure.gradient_noise(case.model, case.loss, case.data)
    assert whole.gradient_norm_squared.is_exact
    assert whole.gradient_norm_squared.value == pytest.approx(single.gradient_norm_squared.value, rel=1e-10)
    part = measure.batch_gradient_noise(case.model, case.loss, batches, 40, mode="eval")
    fresh = measure.batch_gradient_noise(case.model, case.loss, batches, mode="eval")
    assert part.gradient_norm_squared.standard_error < fresh.gradient_norm_squared.standard_error
    assert (part.examples, part.population) == (20, 40)


def test_a_loss_without_curvature_has_no_largest_stable_rate() -> None:
    case = make_case()
    kernel = measure.ntk_eigenvalues(case.model, lambda outputs, targets: outputs.mean(), case.data)
    assert math.isinf(kernel.largest_stable_rate) and "no curvature" in kernel.status


def test_the_monitor_reports_that_its_values_are_older() -> None:
    case = make_case()
    monitor = measure.NoiseMonitor(case.model, case.loss, every=1)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        index = torch.randperm(20, generator=generator)[:16]
        monitor.update(case.inputs[index], case.targets[index])

    for _ in range(8):
        step()
    before = monitor.estimate()
    with torch.no_grad():
        case.model[1].bias.fill_(math.nan)  # type: ignore[index]
    for _ in range(3):
        step()
    after = monitor.estimate()
    assert before is not None and after is not None
    assert "3 measurements were not finite" in after.status and "not finite" not in before.status
    same = measure.NoiseMonitor(make_case().model, case.loss, every=1)
    for _ in range(8):
        same.update(case.inputs, case.targets)
    still = same.estimate()
    assert still is not None and "are equal" in still.status
