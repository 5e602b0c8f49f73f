"""SGD over the run axis: rate, momentum and decay are tensors, one entry per run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noisescale.parameterizations import Table
from noisescale.runs import Run


class PackedSGD:
    """θ ← θ − ε c_l v, v ← m v + ∂L/∂θ + (λ/c_l) θ, as `torch.optim.SGD` does for the groups of `parameterize`.

    Every hyperparameter enters as a tensor [R, 1, …], so nothing can go stale in a compiled step.

    Arguments:
        runs: the pack's runs. tables: one table a run. like: the parameters, for shapes, precision and device.
    """

    def __init__(self, runs: Sequence[Run], tables: Sequence[Table], like: dict[str, Tensor]) -> None:
        multipliers = {
            row.name: [table[position].multiplier for table in tables] for position, row in enumerate(tables[0])
        }

        def along_runs(values: list[float], tensor: Tensor) -> Tensor:
            shape = (len(values),) + (1,) * (tensor.dim() - 1)
            return torch.tensor(values, dtype=tensor.dtype, device=tensor.device).view(shape)

        rates = [run.learning_rate for run in runs]
        decays = [run.weight_decay for run in runs]
        momenta = [run.momentum for run in runs]
        self._rate, self._decay, self._momentum = {}, {}, {}
        for name, tensor in like.items():
            factors = multipliers[name]
            self._rate[name] = along_runs([rate * factor for rate, factor in zip(rates, factors, strict=True)], tensor)
            self._decay[name] = along_runs(
                [decay / factor for decay, factor in zip(decays, factors, strict=True)], tensor
            )
            self._momentum[name] = along_runs(momenta, tensor)
        self._full_rate = {name: rate.clone() for name, rate in self._rate.items()}
        self._decays = any(decays)

    def step(self, parameters: dict[str, Tensor], velocity: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        """One step, in place; `velocity` is empty where no run of the pack has momentum."""
        for name, tensor in parameters.items():
            change = gradients[name]
            if self._decays:
                change = torch.addcmul(change, self._decay[name], tensor)
            if velocity:
                change = velocity[name].mul_(self._momentum[name]).add_(change)
            tensor.addcmul_(change, self._rate[name], value=-1)

    def freeze(self, frozen: Tensor) -> None:
        """Stop the runs marked in `frozen` [R] by setting their rate to zero; all others go at their own."""
        for name, rate in self._rate.items():
            rate.copy_(self._full_rate[name])
            rate[frozen] = 0.0
