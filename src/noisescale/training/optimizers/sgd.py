"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisescale.noise_laws import SGD_NOISE
from noisescale.parameterizations import Row, Table
from noisescale.runs import Run
from noisescale.training.optimizers.protocol import DECAYS, GroupOptions, Optimizer, PackedOptimizer, group_decay
from noisescale.training.optimizers.run_tensors import Tensors

VELOCITY = "velocity"


class SGD(Optimizer):
    """θ ← θ − ε_t c v, v ← m v + g + (λ_t/c) θ, as `torch.optim.SGD` does for the groups of `parameterize`.

    c is the parameter's rate multiplier. With Nesterov momentum, g + (λ_t/c) θ + m v replaces v in the update of θ.

    Source:
        Sutskever, Martens, Dahl, Hinton 2013, for Nesterov's momentum, in the form of `torch.optim.SGD`. Smith, Le 2018
        and Park, Sohl-Dickstein, Le, Smith 2019, section 2, for the noise.
    """

    name = "sgd"
    hyperparameters = ("momentum",)
    defaults = {"momentum": 0.0}
    decays = DECAYS
    noise = SGD_NOISE
    has_nesterov = True

    def slot_names(self, runs: Sequence[Run]) -> tuple[str, ...]:
        """Return the velocity, if any run of the pack has momentum."""
        return (VELOCITY,) if any(run.momentum for run in runs) else ()

    def for_pack(self, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> PackedSGD:
        """Return the update of R runs at once."""
        return PackedSGD(self, runs, tables, like)

    def group(self, row: Row, options: GroupOptions) -> dict[str, Any]:
        """Return a group of `torch.optim.SGD`. Its `weight_decay` is a coupled decay; other decays have another key."""
        multiplier = row.multiplier * row.rate_factor
        rate, decay = options.learning_rate * multiplier, group_decay(row, options, multiplier)
        coupled = options.decay == "coupled"
        group = {"lr": rate, "weight_decay": decay if coupled else 0.0, **options.hyperparameters}
        return group if coupled else {**group, "shrinking_decay": decay}

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.SGD:
        """Return `torch.optim.SGD`. If the decay is not coupled, a hook shrinks the weights before each step."""
        optimizer = torch.optim.SGD(groups, lr=groups[0]["lr"])
        if any(group.get("shrinking_decay") for group in groups):
            optimizer.register_step_pre_hook(lambda optimizer, *_arguments: _shrink(optimizer.param_groups))
        return optimizer


def _shrink(groups: Sequence[dict[str, Any]]) -> None:
    with torch.no_grad():
        for group in groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["shrinking_decay"])


class PackedSGD(PackedOptimizer):
    """SGD on R runs at once."""

    def __init__(self, optimizer: Optimizer, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> None:
        super().__init__(optimizer, runs, tables, like)
        self._momentum = self.run_values([run.momentum for run in runs])
        self._nesterov = runs[0].nesterov
        # The factor of the velocity in Nesterov's update, ε c m.
        self._velocity_rate = self.rate.copy()
        self.rates_changed()

    def update_parameter(self, name: str, tensor: Tensor, slots: Tensors, gradient: Tensor) -> None:
        """Move one parameter and its velocity by one step."""
        rate = self.rate[name]
        if slots:
            velocity = slots[VELOCITY]
            torch.addcmul(gradient, velocity, self._momentum[name], out=velocity)
            if self._nesterov:
                tensor.addcmul_(gradient, rate, value=-1)
                rate = self._velocity_rate[name]
            gradient = velocity
        tensor.addcmul_(gradient, rate, value=-1)

    def rates_changed(self) -> None:
        """Recompute the factors of decay and of Nesterov's velocity."""
        super().rates_changed()
        if self._nesterov:
            torch.mul(self.rate.flat, self._momentum.flat, out=self._velocity_rate.flat)
