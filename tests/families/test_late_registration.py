"""Modules that register parameters, buffers or layers in their first forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.families import build
from noisescale.families.custom import CustomBuild


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
    with pytest.raises(BadInput, match="do not depend on the examples of the first forward pass. Got: scale"):
        factory(4, (6,), 3)


# Torch warns that it will drop TorchScript, which its compiler imports.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_module_without_parameters_is_refused_and_a_compiled_one_is_unwrapped() -> None:
    with pytest.raises(BadInput, match="own:none must return a module with parameters"):
        CustomBuild(lambda width, shape, classes: nn.ReLU(), "own:none")(4, (6,), 3)
    inner = nn.Linear(6, 3)
    assert CustomBuild(lambda width, shape, classes: torch.compile(inner), "own:compiled")(4, (6,), 3) is inner
