"""Wrong use gets one clear message; the model that was measured is never changed."""

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
def test_weights_that_are_no_numbers_are_named(instrument: Callable[..., Any]) -> None:
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

    with pytest.raises(BadInput, match="the same examples at every pass"):
        instrument(case.model, case.loss, Noisy())
    with pytest.raises(BadInput, match="passed over again"):
        instrument(case.model, case.loss, iter([case.data]))


@pytest.mark.parametrize("instrument", [measure.hessian_eigenvalues, measure.hessian_trace])
def test_dropout_that_is_left_on_is_refused(instrument: Callable[..., Any]) -> None:
    case = make_case()
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).double()
    instrument(model.train(), case.loss, case.data)  # evaluated without it, whatever its mode
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
        (lambda case: [], "at least one example"),
        (lambda case: 3, r"\(inputs, targets\)"),
    ],
)
def test_data_that_are_none_are_refused(data: Callable[..., Any], named: str) -> None:
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
def test_the_model_is_left_as_it_was(instrument: Callable[..., Any], mode: bool) -> None:
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


def test_float32_is_measured_in_its_own_precision() -> None:
    single, double = make_case(dtype=torch.float32), make_case()
    for name, tensor in single.model.state_dict().items():
        double.model.state_dict()[name].copy_(tensor)
    data = single.inputs.double(), single.targets
    rough = measure.hessian_eigenvalues(single.model, single.loss, single.data, 2)
    exact = measure.hessian_eigenvalues(double.model, double.loss, data, 2)
    assert rough.converged
    assert rough.values == pytest.approx(exact.values, rel=1e-3)
