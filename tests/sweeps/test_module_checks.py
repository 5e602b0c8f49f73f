"""Modules whose results do not follow from the seed of a run are refused, and the state is named."""

from __future__ import annotations

import copy
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plain_net import INPUTS, Net, from_seed
from torch import Tensor, nn
from torch.nn import functional

from noisescale.errors import BadInput
from noisescale.seeding import seeded
from noisescale.sweeps.module_checks import check_factory, check_growth, check_passes


class Counted(Net):
    """Counts passes, which changes nothing."""

    def begin(self) -> None:
        self.calls, self.history = 0, [0.0]

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        self.history.append(float(hidden.detach().mean()))
        return hidden


class WarmsUp(Net):
    def begin(self) -> None:
        self.calls = 0

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        return hidden * min(1.0, self.calls / 1000)


class ChangesLate(Net):
    def begin(self) -> None:
        self.progress = {"calls": 0}
        self.calls = 0

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        return hidden if self.calls < 5000 else hidden.relu()


class EveryThird(Net):
    def begin(self) -> None:
        self.calls = itertools.count()

    def change(self, hidden: Tensor) -> Tensor:
        return hidden if next(self.calls) % 3 else 2 * hidden


class RunningMean(Net):
    def begin(self) -> None:
        self.mean = torch.zeros(5)

    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
            return hidden
        return hidden - self.mean


class Remembers(Net):
    def begin(self) -> None:
        self.memory: list[Tensor] = []

    def change(self, hidden: Tensor) -> Tensor:
        before = self.memory[-1] if self.memory else 0.0
        self.memory.append(hidden.detach())
        return hidden + 0.1 * before


class CachesWeights(Net):
    def begin(self) -> None:
        self.cache: Tensor | None = None

    def change(self, hidden: Tensor) -> Tensor:
        if self.cache is None:
            self.cache = self.first.weight.detach().square().mean()
        return hidden * self.cache


class OwnGenerator(Net):
    def begin(self) -> None:
        self.generator = np.random.default_rng(0)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * self.generator.normal()


class TorchGenerator(Net):
    def begin(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden + torch.randn(5, generator=self.generator) if self.training else hidden


class AsksTheClock(Net):
    def change(self, hidden: Tensor) -> Tensor:
        return hidden * (time.perf_counter_ns() % 1000)


class DropsInEvaluation(Net):
    def change(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, 0.5)


class NoisyInEvaluation(Net):
    def change(self, hidden: Tensor) -> Tensor:
        return hidden if self.training else hidden + 0.01 * random.random()


class RandomMask(Net):
    """Its mask is drawn, but is not a buffer."""

    def begin(self) -> None:
        self.mask = (torch.rand(5) < 0.5).float()

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * self.mask


class RandomActivation(Net):
    def begin(self) -> None:
        self.activation = random.Random(torch.initial_seed()).choice([0.0, 1.0])

    def change(self, hidden: Tensor) -> Tensor:
        return hidden + self.activation * hidden.relu()


class RegisteredMask(Net):
    def begin(self) -> None:
        self.register_buffer("mask", (torch.rand(5) < 0.5).float())

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * self.mask


MASK = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])


class SharedMask(Net):
    """All modules share a constant buffer."""

    def begin(self) -> None:
        self.register_buffer("mask", MASK)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * self.mask


class Replaced(Net):
    """Puts another tensor in the place of a buffer."""

    def begin(self) -> None:
        self.register_buffer("mean", torch.zeros(5))

    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        return hidden - self.mean


class Dropped(Net):
    def begin(self) -> None:
        self.drop = nn.Dropout(0.5)

    def change(self, hidden: Tensor) -> Tensor:
        return self.drop(hidden) if random.random() < 0.5 or np.random.rand() < 0.5 else hidden  # noqa: NPY002


@pytest.mark.parametrize("kind", [Net, Counted, RegisteredMask, SharedMask, Replaced, Dropped])
def test_good_modules_pass(kind: type[nn.Module]) -> None:
    states = torch.get_rng_state(), random.getstate()
    assert check_factory(from_seed(kind)) == []
    assert check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:]) == []
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (WarmsUp, "a state in calls, which changes the outputs or the gradients in training mode"),
        (ChangesLate, "a state in calls, which changes the outputs or the gradients after 10001 further passes"),
        (EveryThird, "depend on earlier passes"),
        (RunningMean, "a state in mean, which changes the outputs or the gradients in evaluation mode"),
        (Remembers, r"a state in memory.*, which changes the outputs or the gradients"),
        (CachesWeights, "a state in cache, which changes the outputs or the gradients"),
        (OwnGenerator, "a state in generator, which changes the outputs or the gradients in training mode"),
        (TorchGenerator, "a state in generator, which changes the outputs or the gradients in training mode"),
        (AsksTheClock, "other outputs or gradients from the same parameters and buffers, at the second call"),
        (DropsInEvaluation, "without random numbers in evaluation mode"),
        (NoisyInEvaluation, "without random numbers in evaluation mode"),
        (RandomMask, "other outputs or gradients from the same parameters and buffers, with another seed"),
        (RandomActivation, "other outputs or gradients from the same parameters and buffers, with another seed"),
    ],
)
def test_a_state_outside_parameters_and_buffers_is_refused(kind: type[nn.Module], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:])


class Entries:
    def __init__(self) -> None:
        self.calls = 0


@pytest.mark.parametrize(
    ("start", "count", "name"),
    [
        ({"calls": 0}, "self.state['calls'] += 1; late = self.state['calls'] > 5000", "calls"),
        ([0, "a"], "self.state[0] += 1; late = self.state[0] > 5000", "0"),
        ({"inner": [0]}, "self.state['inner'][0] += 1; late = self.state['inner'][0] > 5000", "inner"),
        (Entries(), "self.state.calls += 1; late = self.state.calls > 5000", "calls"),
        (torch.zeros(()), "self.state += 1; late = self.state > 5000", ""),
    ],
)
def test_a_count_that_matters_late_is_noticed_wherever_it_is(start: object, count: str, name: str) -> None:
    class CountsInside(Net):
        def begin(self) -> None:
            self.state = copy.deepcopy(start)

        def change(self, hidden: Tensor) -> Tensor:
            values = {"self": self}
            exec(count, values)
            return -hidden if values["late"] else hidden

    with pytest.raises(
        BadInput, match=rf"a state in state.*{name}.*, which changes the outputs or the gradients after 10001 further"
    ):
        check_passes(from_seed(CountsInside), INPUTS[:8], INPUTS[8:])


PASSES = itertools.count()


@pytest.mark.parametrize("size", [2**-23, -(2**-22)])
def test_rounding_is_said_and_more_is_refused(size: float) -> None:
    class Rounds(Net):
        """Adds numbers in another order at every second pass, as it were."""

        factor = 1.0

        def change(self, hidden: Tensor) -> Tensor:
            return hidden * (1 + self.factor * size * (next(PASSES) % 2))

    (note,) = check_passes(from_seed(Rounds), INPUTS[:8], INPUTS[8:])
    assert "differ by rounding" in note
    Rounds.factor = 1e3
    with pytest.raises(BadInput, match="at the second call|a state outside the module"):
        check_passes(from_seed(Rounds), INPUTS[:8], INPUTS[8:])


class UnseededWeights(Net):
    def begin(self) -> None:
        with torch.no_grad():
            self.first.weight.copy_(torch.from_numpy(np.random.default_rng().normal(size=(5, 6))))


class ClockedWeights(Net):
    def begin(self) -> None:
        with torch.no_grad():
            self.last.bias.fill_(time.perf_counter_ns() % 1000)


SHARED = Net()


class RandomDepth(nn.Sequential):
    def __init__(self) -> None:
        layers = [nn.Linear(6, 6) for _ in range(1 + random.Random(torch.initial_seed()).randrange(2))]
        super().__init__(*layers, nn.Linear(6, 3))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (from_seed(UnseededWeights), "the same seed.*other values of first.weight"),
        (from_seed(ClockedWeights), "the same seed.*other values of last.bias"),
        (lambda seed: SHARED, "a new module at every call.*the same tensor first.weight"),
        (from_seed(lambda: nn.Sequential(SHARED.first, nn.Linear(5, 3))), "the same tensor 0.weight"),
        (from_seed(RandomDepth), "the same parameters at every call"),
    ],
)
def test_a_factory_that_does_not_follow_its_seed_is_refused(build: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_factory(build)


def test_equal_starts_are_said() -> None:
    class Zeros(Net):
        def begin(self) -> None:
            for parameter in self.parameters():
                nn.init.zeros_(parameter)

    (note,) = check_factory(from_seed(Zeros))
    assert "every seed the same initial weights" in note


def test_a_factory_that_ignores_the_width_is_refused() -> None:
    check_growth(lambda width: nn.Linear(width, 3), (4, 8))
    check_growth(lambda width: Net(), (4,))
    for ignoring, widths in ((lambda width: Net(), (4, 8)), (lambda width: nn.Linear(6, min(width, 4)), (2, 4, 8))):
        with pytest.raises(BadInput, match="equal shapes at widths 4 and 8"):
            check_growth(ignoring, widths)


def lambda_over_layers(seed: int) -> nn.Module:
    class Applied(nn.Module):
        def __init__(self, function: Callable[[Tensor], Tensor], *layers: nn.Module) -> None:
            super().__init__()
            self.function, self.layers = function, nn.ModuleList(layers)

        def forward(self, x: Tensor) -> Tensor:
            return self.function(x)

    with seeded(seed):
        first, last = nn.Linear(6, 5), nn.Linear(5, 3)
    return Applied(lambda x: last(first(x).tanh()), first, last)


def hook_over_an_adapter(seed: int) -> nn.Module:
    with seeded(seed):
        module, adapter = Net(), nn.Linear(5, 5)
    module.adapter = adapter
    module.first.register_forward_hook(lambda part, inputs, outputs: outputs + adapter(outputs))
    return module


@pytest.mark.parametrize("build", [lambda_over_layers, hook_over_an_adapter])
def test_closures_over_layers_are_refused(build: Callable[[int], nn.Module]) -> None:
    with pytest.raises(BadInput, match="a copy that computes with layers of the original"):
        check_passes(build, INPUTS[:8], INPUTS[8:])
