"""The whole state of a pack in training, as one value that can be written and read back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

# A run may diverge at step 0, so 0 cannot mark a run that has not.
NOT_DIVERGED = -1


_ALONG_RUNS = ("parameters", "buffers", "averages")


@dataclass(slots=True)
class PackState:
    """Everything that the next step of a pack depends on. The order of examples follows from seed and step.

    Args:
        step: Steps done.
        parameters: [R, …] each.
        slots: The optimizer's state by slot and parameter, [R, …] each.
        buffers: The buffers that training changes (running statistics), [R, …] each.
        diverged_at: The step at which divergence was seen, or `NOT_DIVERGED`, [R].
        exploded: Consecutive evaluations with a training loss above the bound, [R].
        averages: The mean of the late iterates so far, [R, …] each; empty if no run asks for it.
        averaged: The metrics of that mean, [R] each; empty before the end.
        curves: A list of [R] tensors per metric, one entry per evaluation.
        measured: A list of [R] tensors per measured quantity, NaN at evaluations without a measurement.
        evaluated_steps: The steps of the evaluations.
        seconds: Time spent on "training" and "evaluation", in seconds.
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
        """Return the groups of tensors that a step changes: parameters, each slot of the optimizer, buffers."""
        return [self.parameters, *self.slots.values(), self.buffers]

    @property
    def frozen(self) -> Tensor:
        """The runs that have diverged, [R]."""
        return self.diverged_at != NOT_DIVERGED

    def add_measured(self, columns: dict[str, Tensor], runs: int) -> None:
        """Append the columns [R] of a measurement; columns that it lacks get NaN."""
        missing = torch.full((runs,), torch.nan, dtype=torch.float64)
        for name in columns:
            self.measured.setdefault(name, [missing] * (len(self.evaluated_steps) - 1))
        for name, entries in self.measured.items():
            entries.append(columns.get(name, missing))

    def to(self, device: str) -> PackState:
        """Return the state with its tensors on a device. Curves stay on the CPU."""
        moved: dict[str, Any] = {
            name: {key: tensor.to(device) for key, tensor in getattr(self, name).items()} for name in _ALONG_RUNS
        }
        slots = {slot: {key: t.to(device) for key, t in tensors.items()} for slot, tensors in self.slots.items()}
        diverged_at, exploded = self.diverged_at.to(device), self.exploded.to(device)
        return replace(self, **moved, slots=slots, diverged_at=diverged_at, exploded=exploded)

    def is_like(self, other: PackState) -> bool:
        """Return whether all tensors have the names, shapes and precision of another state."""
        slots, others = ({slot: _shapes(t) for slot, t in state.slots.items()} for state in (self, other))
        return slots == others and all(
            _shapes(getattr(self, name)) == _shapes(getattr(other, name)) for name in _ALONG_RUNS
        )

    def as_dict(self) -> dict[str, Any]:
        """Return tensors, numbers, lists and dictionaries only, which `torch.load(weights_only=True)` reads back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PackState:
        """Return the state that `as_dict` gave."""
        return cls(**values)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def clear_runs(parts: Iterable[dict[str, Tensor]], runs: Tensor) -> None:
    """Set the tensors of some runs, marked in `runs` [R], to zero, so that later steps stay finite."""
    for tensors in parts:
        for tensor in tensors.values():
            tensor[runs] = 0


def finite_runs(parameters: dict[str, Tensor]) -> Tensor:
    """Return the runs [R] whose parameters are all finite; behind a dead unit, infinity does not reach the loss."""
    return torch.stack([tensor.reshape(len(tensor), -1).isfinite().all(1) for tensor in parameters.values()]).all(0)


def views(tensors: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
    """Return the tensors of some of the runs, as views."""
    return {name: tensor[part] for name, tensor in tensors.items()}


def zeros_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros of the same shapes."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
