"""SGD over the run axis: rate, momentum and decay are tensors, one entry per run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noisescale.parameterizations import Row, Table
from noisescale.runs import Run


class PackedSGD:
    """θ ← θ − ε c_l v, v ← m v + ∂L/∂θ + (λ/c_l) θ, as `torch.optim.SGD` does for the groups of `parameterize`.

    Every hyperparameter enters as a tensor [R, 1, …], or [R, rows, 1, …] where a tensor's rows differ in c, so nothing
    can go stale in a compiled step.

    Arguments:
        runs: the pack's runs. tables: one table a run. like: the parameters, for shapes, precision and device.
    """

    def __init__(self, runs: Sequence[Run], tables: Sequence[Table], like: dict[str, Tensor]) -> None:
        multipliers = {row.name: [table[place].multiplier for table in tables] for place, row in enumerate(tables[0])}
        # m² of each row of the tensors whose rows differ.
        rows = {row.name: _squares([table[place] for table in tables]) for place, row in enumerate(tables[0])}

        def along_runs(values: list[float], tensor: Tensor) -> Tensor:
            shape = (len(values),) + (1,) * (tensor.dim() - 1)
            return torch.tensor(values, dtype=torch.float64).view(shape)

        rates = [run.learning_rate for run in runs]
        decays = [run.weight_decay for run in runs]
        momenta = [run.momentum for run in runs]
        self._rate, self._decay, self._momentum = {}, {}, {}
        for name, tensor in like.items():
            factors, squares = multipliers[name], rows[name]
            rate = along_runs([rate * factor for rate, factor in zip(rates, factors, strict=True)], tensor)
            decay = along_runs([decay / factor for decay, factor in zip(decays, factors, strict=True)], tensor)
            self._rate[name] = (rate if squares is None else rate * squares).to(tensor)
            self._decay[name] = (decay if squares is None else decay / squares).to(tensor)
            self._momentum[name] = along_runs(momenta, tensor).to(tensor)
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


def _squares(rows: Sequence[Row]) -> Tensor | None:
    """m² of each row of one parameter, [R, rows, 1, …]; None where all rows are alike."""
    factors = [factors for row in rows if (factors := row.row_factors()) is not None]
    return torch.stack(factors).square() if factors else None
