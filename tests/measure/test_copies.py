"""A model whose copy computes with parameters of the original is refused, because its gradients would be zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisescale import measure
from noisescale.errors import BadInput

INPUTS, TARGETS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


class Lambda(nn.Module):
    """Keeps a closure over a layer in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.fc = nn.Linear(4, 5), nn.Linear(5, 3)
        self.read_out = lambda x: self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.read_out(self.hidden(x).tanh())


class Bound(nn.Module):
    """Keeps bound methods, which `copy.deepcopy` binds to the copy."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.steps = [self.first]
        self.fc.register_forward_hook(self.hook)

    def first(self, x: Tensor) -> Tensor:
        return self.fc(x)

    def hook(self, module: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
        return outputs * self.fc.weight.sum()

    def forward(self, x: Tensor) -> Tensor:
        return self.steps[0](x)


def replaced_forward() -> nn.Module:
    model = Lambda()
    model.forward = lambda x: model.fc(model.hidden(x))  # type: ignore[method-assign]
    return model


def adapter() -> nn.Module:
    """A hook adds the outputs of a registered layer."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].adapter = nn.Linear(4, 5)

    def add(module: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> Tensor:
        return outputs + model[0].adapter(inputs[0])  # type: ignore[operator]

    model[0].register_forward_hook(add)
    return model


def frozen() -> nn.Module:
    model = Lambda()
    model.fc.requires_grad_(False)
    return model


@pytest.mark.parametrize(("build", "name"), [(Lambda, "fc"), (replaced_forward, "fc|hidden"), (adapter, r"0\.adapter")])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_closures_over_layers_are_refused(build: Callable[[], nn.Module], name: str, mode: str) -> None:
    message = rf"model: a module that computes with its own layers .*computes with ({name})\.(weight|bias) of the orig"
    with pytest.raises(BadInput, match=message):
        measure.Problem(build(), nn.CrossEntropyLoss(), [(INPUTS, TARGETS)], mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [Lambda, adapter])
def test_lines_between_models_with_closures_are_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(BadInput, match="of the original"):
        measure.interpolate(build(), build(), nn.CrossEntropyLoss(), (INPUTS, TARGETS), [0.0, 1.0])


@pytest.mark.parametrize("build", [Bound, frozen])
def test_bound_methods_and_closures_over_frozen_layers_are_measured(build: Callable[[], nn.Module]) -> None:
    model = build()
    loss = nn.functional.cross_entropy(model(INPUTS), TARGETS)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained)
    square = sum(float(gradient.double().square().sum()) for gradient in gradients)
    noise = measure.gradient_noise(model, nn.CrossEntropyLoss(), (INPUTS, TARGETS))
    assert noise.gradient_norm_squared.value == pytest.approx(square, rel=1e-5)
    assert noise.trace_covariance.value > 0


@pytest.mark.parametrize("name", ["0.weight", "2.bias"])
def test_a_loss_that_computes_with_the_weights_is_refused(name: str) -> None:
    model = nn.Sequential(nn.Linear(INPUTS.shape[1], 8), nn.Tanh(), nn.Linear(8, 3))
    penalized = model.get_parameter(name)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets) + 0.1 * penalized.square().sum()

    with pytest.raises(BadInput, match=f"loss: a loss of outputs and targets alone.*computes with {name} of the model"):
        measure.gradient_noise(model, loss, (INPUTS, TARGETS))
