"""States that few passes or no pass shows: counters, globals, shared memory, layers of another precision."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from plain_net import INPUTS, Net, from_seed
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.seeding import seeded
from noisescale.sweeps.module_checks import check_later_modules, check_passes


class Refreshes(Net):
    """Refreshes a buffer every so many training passes, as a target network does."""

    every, counts_first = 25, True

    def begin(self) -> None:
        self.register_buffer("target", torch.zeros(5))
        self.calls = 0

    def change(self, hidden: Tensor) -> Tensor:
        if not self.training:
            return hidden + self.target
        self.calls += self.counts_first
        if self.calls and self.calls % self.every == 0:
            self.target.copy_(hidden.detach().mean(0))
        self.calls += not self.counts_first
        return hidden + self.target


class DoublesSometimes(Refreshes):
    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        return 2 * hidden if self.calls % self.every == 0 else hidden


@pytest.mark.parametrize("kind", [Refreshes, DoublesSometimes])
@pytest.mark.parametrize(
    ("every", "counts_first"), [(25, True), (100, False), (64, True), (1000, False), (7 * 11, True)]
)
def test_what_happens_every_k_passes_is_refused(kind: type[Refreshes], every: int, counts_first: bool) -> None:
    class Periodic(kind):  # type: ignore[misc,valid-type]
        pass

    Periodic.every, Periodic.counts_first = every, counts_first
    with pytest.raises(BadInput, match="a state in calls, which changes .* every so many passes"):
        check_passes(from_seed(Periodic), INPUTS[:8], INPUTS[8:])


class NewParameter(Net):
    def change(self, hidden: Tensor) -> Tensor:
        self.last.weight = nn.Parameter(self.last.weight.detach().clamp(-0.3, 0.3))
        return hidden


class NewParameterOfALayer(Net):
    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.first.bias = nn.Parameter(0.9 * self.first.bias.detach())
        return hidden


@pytest.mark.parametrize(("kind", "name"), [(NewParameter, "last.weight"), (NewParameterOfALayer, "first.bias")])
def test_a_parameter_that_a_pass_replaces_is_refused(kind: type[nn.Module], name: str) -> None:
    with pytest.raises(BadInput, match=f"keeps its parameters.*another tensor in the place of {name}"):
        check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:])


class ViewOfABuffer(Net):
    def begin(self) -> None:
        self.register_buffer("table", torch.ones(10))
        self.half = self.table[:5]

    def change(self, hidden: Tensor) -> Tensor:
        self.table.mul_(0.9)
        return hidden * self.half


class ViewsInAList(Net):
    def begin(self) -> None:
        self.register_buffer("table", torch.ones(2, 5))
        self.rows = {"rows": list(self.table)}

    def change(self, hidden: Tensor) -> Tensor:
        self.table = 0.9 * self.table
        return hidden * self.rows["rows"][1]


class TiedByData(Net):
    def begin(self) -> None:
        self.second, self.third = nn.Linear(5, 5), nn.Linear(5, 5)
        self.third.weight.data = self.second.weight.data

    def change(self, hidden: Tensor) -> Tensor:
        return self.third(self.second(hidden).tanh())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ViewOfABuffer, "half, which shares memory with table"),
        (ViewsInAList, "rows.*, which shares memory with table"),
        (TiedByData, "to tie two, assign the tensor itself.*second.weight, which shares memory with third.weight"),
    ],
)
def test_parts_of_parameters_and_buffers_are_refused(kind: type[nn.Module], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:])


class Tied(Net):
    def begin(self) -> None:
        self.second, self.third = nn.Linear(5, 5), nn.Linear(5, 5)
        self.third.weight = self.second.weight
        self.layers = [self.second.weight]

    def change(self, hidden: Tensor) -> Tensor:
        return self.third(self.second(hidden).tanh())  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_tied_parameters_and_what_each_pass_computes_anew_are_allowed() -> None:
    assert check_passes(from_seed(Tied), INPUTS[:8], INPUTS[8:]) == []

    def spectral() -> nn.Module:
        # Its `weight` is at first a view of `weight_orig`.
        return nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 3))

    assert check_passes(from_seed(spectral), INPUTS[:8], INPUTS[8:]) == []


SETTINGS: dict[str, Any] = {}


class ReadsAGlobal(Net):
    def change(self, hidden: Tensor) -> Tensor:
        return hidden / SETTINGS["width"]


class CopiesAGlobal(Net):
    def begin(self) -> None:
        self.width = SETTINGS["width"]

    def change(self, hidden: Tensor) -> Tensor:
        return hidden / self.width


def of_width(kind: type[nn.Module], width: int) -> nn.Module:
    SETTINGS["width"] = width
    with seeded(0):
        return kind()


def test_a_global_of_the_factory_is_refused() -> None:
    with pytest.raises(BadInput, match="after the factory has built a module of another width"):
        check_later_modules(lambda _: of_width(ReadsAGlobal, 4), lambda: of_width(ReadsAGlobal, 8), INPUTS)
    check_later_modules(lambda _: of_width(CopiesAGlobal, 4), lambda: of_width(CopiesAGlobal, 8), INPUTS)


class SetsThePrecision(Net):
    def change(self, hidden: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return hidden + torch.zeros(5).to(hidden)


class SetsTheThreads(Net):
    def change(self, hidden: Tensor) -> Tensor:
        torch.set_num_threads(3)
        return hidden


@pytest.mark.parametrize("kind", [SetsThePrecision, SetsTheThreads])
def test_settings_that_a_pass_changes_do_not_reach_the_next(kind: type[nn.Module]) -> None:
    before = torch.get_default_dtype(), torch.get_num_threads()
    assert check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:]) == []
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before


class ChangesASparseBuffer(Net):
    def begin(self) -> None:
        self.register_buffer("adjacent", torch.eye(5).to_sparse())

    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.adjacent = 0.9 * self.adjacent
        return (self.adjacent @ hidden.T).T


def test_a_sparse_buffer_that_moves_is_refused() -> None:
    with pytest.raises(BadInput, match="sparse buffers stay as they are.*adjacent, which a pass changes"):
        check_passes(from_seed(ChangesASparseBuffer), INPUTS[:8], INPUTS[8:])


class TupleInTraining(Net):
    def forward(self, x: Tensor) -> Any:
        outputs = super().forward(x)
        return (outputs, x) if self.training else outputs


def test_a_tuple_in_training_mode_is_refused() -> None:
    with pytest.raises(BadInput, match="one tensor in training mode. Got: a tuple"):
        check_passes(from_seed(TupleInTraining), INPUTS[:8], INPUTS[8:])


class ClampsAfterwards(Refreshes):
    """Changes its weights after the outputs, every fifth pass."""

    def forward(self, x: Tensor) -> Tensor:
        outputs = super().forward(x)
        self.calls += 1
        if self.training and self.calls % 5 == 0:
            self.last.bias.data.clamp_(-0.05, 0.05)
        return outputs

    def change(self, hidden: Tensor) -> Tensor:
        return hidden


class CopiesWeights(Net):
    """Copies its weights to a buffer, which starts as their copy, every fourth pass."""

    def begin(self) -> None:
        self.register_buffer("target", self.first.weight.detach().clone())
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.last(self.first(x).tanh() + x @ self.target.T)
        self.calls += 1
        if self.training and self.calls % 4 == 0:
            self.target.copy_(self.first.weight.detach())
        return outputs  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [ClampsAfterwards, CopiesWeights])
def test_weights_and_buffers_that_a_counter_changes_after_the_outputs_are_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(BadInput, match="a state in calls"):
        check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:])


@dataclass(slots=True)
class Slots:
    calls: int = 0


COUNTS: dict[str, tuple[Callable[[], object], Callable[[Any], bool]]] = {
    "slots": (Slots, lambda state: setattr(state, "calls", state.calls + 1) or state.calls % 20 == 0),
    "array": (lambda: np.zeros(1), lambda state: bool(np.add(state, 1, out=state)[0] % 50 == 0)),
    "iterator": (itertools.count, lambda state: next(state) % 20 == 19),
    "length": (list, lambda state: state.append(0) or len(state) % 30 == 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_any_kind_are_noticed(name: str) -> None:
    start, advance = COUNTS[name]

    class CountsSomehow(Net):
        def begin(self) -> None:
            self.state = start()

        def change(self, hidden: Tensor) -> Tensor:
            return 2 * hidden if advance(self.state) else hidden

    with pytest.raises(BadInput, match="depend on earlier passes"):
        check_passes(from_seed(CountsSomehow), INPUTS[:8], INPUTS[8:])


class NumpyNumber(Net):
    def begin(self) -> None:
        self.calls = np.int64(0)

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        return 2 * hidden if self.calls % 1000 == 0 else hidden


class CountsInItsClass(Net):
    calls = 0

    def change(self, hidden: Tensor) -> Tensor:
        type(self).calls += 1
        return 2 * hidden if self.calls % 40 == 0 else hidden


@pytest.mark.parametrize("kind", [NumpyNumber, CountsInItsClass])
def test_numbers_of_numpy_and_of_a_class_are_noticed(kind: type[nn.Module]) -> None:
    with pytest.raises(BadInput, match="depend on earlier passes"):
        check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:])


class NotANumber(Net):
    def begin(self) -> None:
        self.last_ratio, self.largest, self.calls = math.nan, math.inf, 0

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        return hidden


class Rotary(Net):
    """Two buffers of one table, whose entries lie between each other, and a part of a constant."""

    def begin(self) -> None:
        table = torch.polar(torch.ones(5), torch.arange(5.0))
        self.register_buffer("cosines", table.real)
        self.register_buffer("sines", table.imag)
        self.register_buffer("places", torch.linspace(0, 1, 10))
        self.part = self.places[:5]

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * self.cosines + hidden.flip(1) * self.sines + self.part


class Interleaved(Net):
    def begin(self) -> None:
        left, right = torch.randn(5, 10).chunk(2, dim=1)
        self.left, self.right = nn.Parameter(left), nn.Parameter(right)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden @ self.left + hidden @ self.right


@pytest.mark.parametrize("kind", [NotANumber, Rotary, Interleaved])
def test_harmless_attributes_and_shared_tables_are_allowed(kind: type[nn.Module]) -> None:
    assert check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:]) == []


class Merges(Net):
    """Merges weights in evaluation mode, as adapters of low rank do."""

    def begin(self) -> None:
        self.adapter, self.merged = nn.Parameter(torch.full((5, 6), 0.1)), False

    def train(self, mode: bool = True) -> Merges:
        if self.merged == mode:
            self.first.weight.data += -self.adapter.data if mode else self.adapter.data
            self.merged = not mode
        return super().train(mode)


def test_weights_that_are_merged_in_evaluation_mode_are_refused() -> None:
    with pytest.raises(BadInput, match="whenever it goes into training or evaluation mode|depend on earlier passes"):
        check_passes(from_seed(Merges), INPUTS[:8], INPUTS[8:])
        check_later_modules(from_seed(Merges), lambda: None, INPUTS[:8])
