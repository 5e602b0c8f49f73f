"""Buffers and attributes of odd kinds are allowed where a sweep can train them, and else refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from plain_net import INPUTS, Net, from_seed
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.sweeps.module_checks import check_factory, check_passes
from noisescale.training.kernels.buffer_slots import BufferSlots


class SparseBuffer(Net):
    def begin(self) -> None:
        self.register_buffer("adjacent", torch.eye(5).to_sparse())

    def change(self, hidden: Tensor) -> Tensor:
        return (self.adjacent @ hidden.T).T


class SparseAttribute(Net):
    def begin(self) -> None:
        self.adjacent = torch.eye(5).to_sparse()

    def change(self, hidden: Tensor) -> Tensor:
        return (self.adjacent @ hidden.T).T


class ExpandedBuffer(Net):
    def begin(self) -> None:
        self.register_buffer("scale", torch.ones(1).expand(5))

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * self.scale


class ComplexBuffer(Net):
    def begin(self) -> None:
        self.register_buffer("phases", torch.polar(torch.ones(5), torch.arange(5.0)))

    def change(self, hidden: Tensor) -> Tensor:
        return (hidden * self.phases).real


class Unset(Mapping[str, float]):
    """Settings of which one has no value yet."""

    def __getitem__(self, key: str) -> float:
        raise KeyError(f"{key} is not set")

    def __iter__(self) -> Iterator[str]:
        return iter(["rate"])

    def __len__(self) -> int:
        return 1


class Unreadable:
    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            raise RuntimeError("no attributes")
        return object.__getattribute__(self, name)


class WithSettings(Net):
    def begin(self) -> None:
        self.settings, self.other = Unset(), Unreadable()


@pytest.mark.parametrize("kind", [SparseBuffer, SparseAttribute, ExpandedBuffer, ComplexBuffer, WithSettings])
def test_odd_kinds_are_allowed(kind: type[nn.Module]) -> None:
    assert check_factory(from_seed(kind)) == []
    assert check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:]) == []


class Queue(Net):
    def begin(self) -> None:
        self.register_buffer("queue", torch.zeros(0, 5))

    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.queue = torch.cat([self.queue, hidden[:1].detach()])[-4:]
        return hidden


class Halved(Net):
    """Its whole number becomes a float."""

    def begin(self) -> None:
        self.register_buffer("scale", torch.tensor(8))

    def change(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.scale = self.scale * 0.5
        return hidden


class ThirdPass(Net):
    def begin(self) -> None:
        self.calls = 0

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            self.register_buffer("late", torch.zeros(5))
        return hidden


class Removes(Net):
    def begin(self) -> None:
        self.register_buffer("first_pass", torch.ones(()))

    def change(self, hidden: Tensor) -> Tensor:
        if hasattr(self, "first_pass"):
            del self.first_pass
        return hidden


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Queue, r"keep their shapes.*queue, floats of shape \(0, 5\), then floats of shape \(1, 5\)"),
        (Halved, r"kinds of numbers.*scale, whole numbers of shape \(\), then floats of shape \(\)"),
        (ThirdPass, "in its first pass in each mode, and keeps them. Got: late"),
        (Removes, "in its first pass in each mode, and keeps them. Got: first_pass"),
    ],
)
def test_buffers_that_no_pack_can_hold_are_refused(kind: type[nn.Module], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_passes(from_seed(kind), INPUTS[:8], INPUTS[8:])


@pytest.mark.parametrize(("module", "value"), [(Queue(), torch.zeros(1, 5)), (Halved(), torch.tensor(4.0))])
def test_a_buffer_that_changes_its_kind_later_ends_the_run_in_a_sentence(module: nn.Module, value: Tensor) -> None:
    ((name, buffer),) = module.named_buffers()
    pack, slots = {name: torch.stack([buffer, buffer])}, BufferSlots(module)
    slots.set(pack, 1)
    setattr(module, name, value)
    with pytest.raises(BadInput, match=rf"keep their shapes and their kinds of numbers. Got: {name}"):
        slots.read(pack, 1)
