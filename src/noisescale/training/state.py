"""The whole state of a pack in training, as one object that can be written and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

# Entry of `diverged_at` for a run that has not diverged. It is not 0, because a run may diverge at step 0.
NOT_DIVERGED = -1

# The fields with tensors of shape [R, …] by parameter or buffer.
_PER_RUN = ("parameters", "buffers", "averages")


@dataclass(slots=True)
class PackState:
    """Everything on which the next step of a pack depends, except the order of examples, which seed and step determine.

    Args:
        step: Number of steps done.
        parameters: Parameters by name, shape [R, …] each.
        slots: The optimizer's state tensors (e.g. the velocity), by slot and parameter, shape [R, …] each.
        buffers: The buffers that training changes (running statistics) and the frozen parameters, by name, shape
            [R, …] each.
        diverged_at: The step at which divergence was detected, or `NOT_DIVERGED`, shape [R].
        exploded: Number of consecutive evaluations with a training loss above the bound, shape [R].
        skipped: Number of steps in which each run did not use a parameter, by parameter, shape [R] each. Parameters
            that every step used are left out.
        averages: The average of the iterates so far, by parameter, shape [R, …] each. Empty if the runs do not
            average.
        averaged: The metrics of this average, by name, shape [R] each. Empty before the end of training.
        curves: For each metric, a list of tensors of shape [R], one per evaluation.
        measured: For each measured quantity, a list of tensors of shape [R], one per evaluation. They are NaN at
            evaluations without a measurement.
        evaluated_steps: The steps of the evaluations so far.
        seconds: Time spent on "training" and "evaluation", in seconds.
    """

    step: int
    parameters: dict[str, Tensor]
    slots: dict[str, dict[str, Tensor]]
    buffers: dict[str, Tensor]
    diverged_at: Tensor
    exploded: Tensor
    skipped: dict[str, Tensor] = field(default_factory=dict)
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
        """Whether each run has diverged, shape [R]."""
        return self.diverged_at != NOT_DIVERGED

    def add_skipped(self, unused: Mapping[str, Sequence[int]], part: slice) -> None:
        """Count a step in which runs did not use a parameter.

        Args:
            unused: Indices within the part of the runs that did not use a parameter, by parameter.
            part: The runs of this step.
        """
        for name, runs in unused.items():
            counts = self.skipped.setdefault(name, torch.zeros_like(self.diverged_at))
            counts[part][list(runs)] += 1

    def add_measured(self, columns: dict[str, Tensor], runs: int) -> None:
        """Append the columns of a measurement, shape [R] each. Earlier columns that are not measured now get NaN."""
        missing = torch.full((runs,), torch.nan, dtype=torch.float64)
        for name in columns:
            self.measured.setdefault(name, [missing] * (len(self.evaluated_steps) - 1))
        for name, entries in self.measured.items():
            entries.append(columns.get(name, missing))

    def to(self, device: str) -> PackState:
        """Return the state with its tensors on a device. Curves stay on the CPU."""
        moved: dict[str, Any] = {
            name: {key: tensor.to(device) for key, tensor in getattr(self, name).items()}
            for name in (*_PER_RUN, "skipped")
        }
        slots = {slot: {key: t.to(device) for key, t in tensors.items()} for slot, tensors in self.slots.items()}
        diverged_at, exploded = self.diverged_at.to(device), self.exploded.to(device)
        return replace(self, **moved, slots=slots, diverged_at=diverged_at, exploded=exploded)

    def is_like(self, other: PackState) -> bool:
        """Return whether all tensors have the same names, shapes and precision as in another state."""
        slots, other_slots = ({slot: _shapes(t) for slot, t in state.slots.items()} for state in (self, other))
        return slots == other_slots and all(
            _shapes(getattr(self, name)) == _shapes(getattr(other, name)) for name in _PER_RUN
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the state as tensors, numbers, lists and dictionaries, for `torch.load(weights_only=True)`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PackState:
        """Return the state from the values that `as_dict` returned."""
        return cls(**values)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def clear_runs(parts: Iterable[dict[str, Tensor]], runs: Tensor) -> None:
    """Set the tensors of the runs marked in `runs` [R] to zero, so that later steps stay finite."""
    for tensors in parts:
        for tensor in tensors.values():
            tensor[runs] = 0


def finite_runs(parameters: dict[str, Tensor]) -> Tensor:
    """Return whether all parameters of each run are finite, shape [R].

    The loss does not always show an infinite parameter, because a dead unit may hide it.
    """
    return torch.stack([tensor.reshape(len(tensor), -1).isfinite().all(1) for tensor in parameters.values()]).all(0)


def views(tensors: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
    """Return views of the tensors of the runs in `part`."""
    return {name: tensor[part] for name, tensor in tensors.items()}


def zeros_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros with the shapes of the tensors."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
