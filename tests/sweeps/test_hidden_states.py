"""States that few passes or no pass shows: counters, globals, shared memory, layers of another precision."""

from __future__ import annotations

from typing import Any

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
        return hidden * self.half


class ViewsInAList(Net):
    def begin(self) -> None:
        self.register_buffer("table", torch.ones(2, 5))
        self.rows = {"rows": list(self.table)}

    def change(self, hidden: Tensor) -> Tensor:
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
