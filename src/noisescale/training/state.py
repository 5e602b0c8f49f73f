"""The whole state of a pack in training, as one value that can be written and read back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

# A run may be beyond all numbers before its first step, so 0 is a step like any other.
NOT_DIVERGED = -1


_ALONG_RUNS = ("parameters", "buffers", "averages")


@dataclass(slots=True)
class PackState:
    """Everything that a pack's next step depends on; the order of examples follows from seed and step alone.

    Args:
        step: Steps done.
        parameters: [R, …] each.
        slots: The optimizer's state by slot and parameter, [R, …] each.
        buffers: [R, …] each, those that training changes (running statistics).
        diverged_at: [R], the step at which divergence was seen, `NOT_DIVERGED` while there is none.
        exploded: [R], evaluations in a row at which the training loss was above the bound.
        averages: [R, …] each, the mean of the late iterates so far; empty where it is not asked for.
        averaged: [R] per quantity, what that mean reaches; empty before the end.
        curves: One list of [R] tensors per quantity, an entry per evaluation.
        measured: The same of what instruments measured, nan at evaluations without a measurement.
        seconds: Training and evaluation time so far.
    """

    step: int
    parameters: dict[str, Tensor]
    slots: dict[str, dict[str, Tensor]]
    buffers: dict[str, Tensor]
    diverged_at: Tensor
    exploded: Tensor
    averages: dict[str, Tensor] = field(default_factory=dict)
    averaged: dict[str, Tensor] = field(default_factory=dict)
    curves: dict[str, list[Tensor]] = field(default_factory=dict)
    measured: dict[str, list[Tensor]] = field(default_factory=dict)
    evaluated_steps: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0})

    def changed_by_steps(self) -> list[dict[str, Tensor]]:
        """The groups of tensors that a step changes: parameters, each slot of the optimizer, buffers."""
        return [self.parameters, *self.slots.values(), self.buffers]

    @property
    def frozen(self) -> Tensor:
        return self.diverged_at != NOT_DIVERGED

    def add_measured(self, found: dict[str, Tensor], runs: int) -> None:
        """Append a measurement [R] of every column, nan in those that it lacks."""
        nothing = torch.full((runs,), torch.nan, dtype=torch.float64)
        for name in found:
            self.measured.setdefault(name, [nothing] * (len(self.evaluated_steps) - 1))
        for name, entries in self.measured.items():
            entries.append(found.get(name, nothing))

    def to(self, device: str) -> PackState:
        """The same with everything that is computed with on a device; curves stay where they are read."""
        moved: dict[str, Any] = {
            name: {key: tensor.to(device) for key, tensor in getattr(self, name).items()} for name in _ALONG_RUNS
        }
        slots = {slot: {key: one.to(device) for key, one in tensors.items()} for slot, tensors in self.slots.items()}
        diverged_at, exploded = self.diverged_at.to(device), self.exploded.to(device)
        return replace(self, **moved, slots=slots, diverged_at=diverged_at, exploded=exploded)

    def is_like(self, other: PackState) -> bool:
        """Whether all tensors have the names, shapes and precision of another's."""
        slots, others = ({slot: _shapes(own) for slot, own in state.slots.items()} for state in (self, other))
        return slots == others and all(
            _shapes(getattr(self, name)) == _shapes(getattr(other, name)) for name in _ALONG_RUNS
        )

    def as_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dictionaries only, so that `torch.load(weights_only=True)` reads it back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PackState:
        return cls(**values)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def clear_runs(parts: Iterable[dict[str, Tensor]], runs: Tensor) -> None:
    """Set the tensors of runs marked in `runs` [R] to zero, so that nothing infinite is computed with."""
    for tensors in parts:
        for tensor in tensors.values():
            tensor[runs] = 0


def finite_runs(parameters: dict[str, Tensor]) -> Tensor:
    """Runs [R] whose parameters are all finite; an infinite one behind a dead unit leaves the loss finite."""
    return torch.stack([tensor.reshape(len(tensor), -1).isfinite().all(1) for tensor in parameters.values()]).all(0)


def views(tensors: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
    """Return the tensors of some of the runs, as views."""
    return {name: tensor[part] for name, tensor in tensors.items()}


def zeros_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros of the same shapes."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
