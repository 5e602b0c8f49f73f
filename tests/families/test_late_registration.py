"""Modules that register parameters, buffers or layers in their first passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import build
from noisescale.families.custom import CustomBuild
from noisescale.families.late_registration import register, registering_modes


class Late(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.first = nn.LazyLinear(width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        if not hasattr(self, "last"):
            self.last = nn.Linear(self.width, 3)
            self.register_buffer("shift", torch.rand(self.width))
        out: Tensor = self.last(hidden + self.shift)
        return out


def test_a_module_is_complete_and_follows_its_seed() -> None:
    factory = CustomBuild(lambda width, shape, classes: Late(width), "own:late")
    first, again, other = (build(factory, 4, (6,), 3, seed) for seed in (0, 0, 1))
    assert {name for name, _ in first.named_parameters()} == {"first.weight", "first.bias", "last.weight", "last.bias"}
    assert first.training and "shift" in dict(first.named_buffers())
    values, equal, unequal = (module.state_dict() for module in (first, again, other))
    assert all(
        torch.equal(values[name], equal[name]) and not torch.equal(values[name], unequal[name]) for name in values
    )


class FromExamples(nn.Module):
    """Takes the scale of its inputs from the first batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(6, width)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.register_buffer("scale", x.mean())
        out: Tensor = self.first(x - self.scale)
        return out


def test_what_depends_on_the_first_examples_is_refused() -> None:
    factory = CustomBuild(lambda width, shape, classes: FromExamples(width), "own:from_examples")
    with pytest.raises(BadInput, match="do not depend on the examples of the first passes. Got: scale"):
        factory(4, (6,), 3)


# Torch warns that it will drop TorchScript, which its compiler imports.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_module_without_parameters_is_refused_and_a_compiled_one_is_unwrapped() -> None:
    with pytest.raises(BadInput, match="own:none must return a module with parameters to train"):
        CustomBuild(lambda width, shape, classes: nn.ReLU(), "own:none")(4, (6,), 3)
    inner = nn.Linear(6, 3)
    assert CustomBuild(lambda width, shape, classes: torch.compile(inner), "own:compiled")(4, (6,), 3) is inner


class Net(nn.Module):
    """A plain network. Subclasses change its hidden activations."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.begin()

    def begin(self) -> None:
        pass

    def change(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.change(self.first(x).tanh()))
        return out


class MeanInTraining(Net):
    """Registers a running mean at its first training pass, and has another normalization."""

    def begin(self) -> None:
        self.norm = nn.BatchNorm1d(5)

    def change(self, hidden: Tensor) -> Tensor:
        if self.training and not hasattr(self, "mean"):
            self.register_buffer("mean", torch.full((5,), 2.0))
        if self.training:
            self.mean = 0.9 * self.mean + hidden.detach().mean(0)
        return self.norm(hidden)


class LayerInTraining(Net):
    """Its layer changes a buffer after its constructor has registered it."""

    def change(self, hidden: Tensor) -> Tensor:
        if self.training and not hasattr(self, "norm"):
            norm = nn.BatchNorm1d(5)
            norm.running_mean.fill_(2.0)
            self.norm = norm
        return self.norm(hidden) if self.training else hidden


class LazyInEvaluation(Net):
    def begin(self) -> None:
        self.lazy = nn.LazyLinear(5)

    def change(self, hidden: Tensor) -> Tensor:
        return self.lazy(hidden)


class InBothModes(LazyInEvaluation, MeanInTraining):
    def begin(self) -> None:
        LazyInEvaluation.begin(self)
        MeanInTraining.begin(self)

    def change(self, hidden: Tensor) -> Tensor:
        return MeanInTraining.change(self, LazyInEvaluation.change(self, hidden))


@pytest.mark.parametrize(
    ("kind", "modes", "name"),
    [
        (Net, (), None),
        (LazyInEvaluation, (False,), None),
        (MeanInTraining, (True,), "mean"),
        (LayerInTraining, (True,), "norm.running_mean"),
        (InBothModes, (False, True), "mean"),
    ],
)
def test_what_a_first_pass_registers_has_its_initial_value(
    kind: type[nn.Module], modes: tuple[bool, ...], name: str | None
) -> None:
    module = kind()
    before = {key: tensor.clone() for key, tensor in module.named_buffers()}
    assert registering_modes(module, (6,)) == modes
    assert dict(module.named_buffers()).keys() == before.keys()
    for training in modes:
        register(module, torch.zeros(2, 6), training)
    buffers = dict(module.named_buffers())
    assert all(torch.equal(buffers[key], tensor) for key, tensor in before.items())
    assert name is None or torch.equal(buffers[name], torch.full((5,), 2.0))


class FirstMean(Net):
    def change(self, hidden: Tensor) -> Tensor:
        if self.training and not hasattr(self, "mean"):
            self.register_buffer("mean", hidden.detach().mean(0))
        return hidden - self.mean if self.training else hidden


class FirstScale(Net):
    def change(self, hidden: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(hidden.detach().std(0))
        return hidden * self.scale


@pytest.mark.parametrize(("kind", "name"), [(FirstMean, "mean"), (FirstScale, "scale")])
def test_what_depends_on_the_examples_in_some_mode_is_refused(kind: type[nn.Module], name: str) -> None:
    with pytest.raises(BadInput, match=f"the examples of the first passes. Got: {name}, which does"):
        registering_modes(kind(), (6,))
