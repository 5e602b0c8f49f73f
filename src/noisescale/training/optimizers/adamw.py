"""Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from noisescale.noise_laws import ADAM_NOISE
from noisescale.parameterizations import Row, Table
from noisescale.runs import Run
from noisescale.training.optimizers.protocol import GroupOptions, Optimizer, PackedOptimizer
from noisescale.training.optimizers.run_tensors import RunTensors, Tensors, table_multipliers

MEAN, SQUARE = "mean", "square"


class AdamW(Optimizer):
    """θ ← (1 − ε_t a λ_t) θ − ε_t a m̂/(√v̂ + ϵ), with bias-corrected averages m̂ of g and v̂ of g².

    The step does not change if g and ϵ are multiplied by the same number. A parameterization has W = mθ with a forward
    multiplier m, and c = m². Therefore the rate multiplier a is m = √c, and ϵ for the gradient in W is ϵ/√c. µP has
    separate multipliers for Adam, and its ϵ is unchanged.

    Source:
        Loshchilov, Hutter 2019, algorithm 2, in the form of `torch.optim.AdamW`; Yang et al. 2022, table 3, for µP;
        Malladi et al. 2022, for the square-root rule of the noise.
    """

    name = "adamw"
    hyperparameters = ("beta1", "beta2", "epsilon")
    # The defaults of torch.optim.AdamW, from Kingma, Ba 2015, algorithm 1.
    defaults = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    decays = ("decoupled", "independent")
    noise = ADAM_NOISE
    # With the gradient times m, the ϵ of the query rows is ϵ/m. The step is otherwise the same, so that the optimizer
    # of `build` gives these rows their rate.
    query_power = 1

    def slot_names(self, runs: Sequence[Run]) -> tuple[str, ...]:
        """Return the averages of the gradient and of its square."""
        return (MEAN, SQUARE)

    def rate_multiplier(self, row: Row) -> tuple[float, float]:
        """Return the table's multiplier for Adam, or √c if there is none; and the factor m of the query rows."""
        multiplier = math.sqrt(row.multiplier) if row.adam_multiplier is None else row.adam_multiplier
        return multiplier, row.query_factor

    def for_pack(self, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> PackedAdamW:
        """Return the update of R runs at once."""
        return PackedAdamW(self, runs, tables, like)

    def group(self, row: Row, options: GroupOptions) -> dict[str, Any]:
        """Return a group of `torch.optim.AdamW`."""
        values = {**self.defaults, **options.hyperparameters}
        betas, epsilon = (values["beta1"], values["beta2"]), values["epsilon"] * epsilon_factor(row)[0]
        group = {**super().group(row, options), "betas": betas, "eps": epsilon}
        if row.query_factor == 1.0:
            return group
        # Decoupled decay takes the rate of the rows, and independent decay the base rate.
        of_decay = row.query_factor if options.decay == "decoupled" else 1.0
        return {**group, "query_rows": row.parameter.query_rows, "query_factors": (row.query_factor, of_decay)}

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.AdamW:
        """Return `torch.optim.AdamW`. If queries are a part of a tensor, hooks give these rows their rate."""
        optimizer = torch.optim.AdamW(groups)
        if any("query_rows" in group for group in groups):
            rows = _QueryRows()
            optimizer.register_step_pre_hook(lambda optimizer, *_arguments: rows.store(optimizer.param_groups))
            optimizer.register_step_post_hook(lambda optimizer, *_arguments: rows.scale(optimizer.param_groups))
        return optimizer


class _QueryRows:
    """The rows of queries before a step, from which the step is scaled: torch has one rate for a whole tensor."""

    def __init__(self) -> None:
        self._before: list[tuple[Tensor, Tensor]] = []

    def store(self, groups: Sequence[dict[str, Any]]) -> None:
        self._before = [(rows, rows.clone()) for _, rows in _query_rows(groups)]

    def scale(self, groups: Sequence[dict[str, Any]]) -> None:
        for (group, rows), (_, before) in zip(_query_rows(groups), self._before, strict=True):
            factor, of_decay = group["query_factors"]
            shrinking = (factor - of_decay) * group["lr"] * group["weight_decay"]
            rows.copy_(before.mul(1 + shrinking).add_(rows - before, alpha=factor))


def _query_rows(groups: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Yield each group with a view of each of its ranges of query rows, of the parameters that a step changes."""
    for group in groups:
        for parameter in group["params"] if "query_rows" in group else ():
            if parameter.grad is not None:
                yield from ((group, parameter.detach()[start:stop]) for start, stop in group["query_rows"])


def epsilon_factor(row: Row) -> tuple[float, float]:
    """Return the factor of ϵ for a row of a parameterization's table, and the factor of ϵ for its query rows."""
    return (1 / math.sqrt(row.multiplier) if row.adam_multiplier is None else 1.0), 1 / row.query_factor


class PackedAdamW(PackedOptimizer):
    """AdamW on R runs at once."""

    def __init__(self, optimizer: Optimizer, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> None:
        super().__init__(optimizer, runs, tables, like)
        self._beta1, self._beta2, epsilons = (
            torch.tensor([getattr(run, key) for run in runs], dtype=torch.float64) for key in AdamW.hyperparameters
        )
        like_any = next(iter(like.values()))
        self._mean_weight = self.run_values((1 - self._beta1).tolist())
        self._square_weight = self.run_values((1 - self._beta2).tolist())
        self._square_decay = self.run_values(self._beta2.tolist())
        factors = table_multipliers(tables, like, epsilon_factor)
        self._epsilon = RunTensors(
            {name: epsilons.view(-1, *(1,) * (factor.dim() - 1)) * factor for name, factor in factors.items()}, like
        )
        self._step = 0
        # The factors 1/(1 − β1^t) and 1/√(1 − β2^t), shape [R, 1, …], by a parameter's number of axes. They are updated
        # by `prepare` before each step.
        self._corrections: dict[int, tuple[Tensor, Tensor]] = {}
        for tensor in like.values():
            shape = (len(runs), *(1,) * (tensor.dim() - 1))
            self._corrections.setdefault(tensor.dim(), (like_any.new_ones(shape), like_any.new_ones(shape)))

    def prepare(self, step: int, rate_factor: float, decay_factor: float) -> None:
        """Apply the schedule's factors, and update the bias corrections of the averages."""
        super().prepare(step, rate_factor, decay_factor)
        self._step = step
        mean, square = 1 / (1 - self._beta1**step), (1 - self._beta2**step).rsqrt()
        for mean_correction, square_correction in self._corrections.values():
            mean_correction.copy_(mean.view_as(mean_correction))
            square_correction.copy_(square.view_as(square_correction))

    def update_parameter(self, name: str, tensor: Tensor, slots: Tensors, gradient: Tensor) -> None:
        """Move one parameter and its averages by one step."""
        mean, square = slots[MEAN], slots[SQUARE]
        mean_correction, square_correction = self._corrections_of(name, tensor)
        mean.lerp_(gradient, self._mean_weight[name])
        square.mul_(self._square_decay[name]).add_(gradient.square().mul_(self._square_weight[name]))
        denominator = square.sqrt().mul_(square_correction).add_(self._epsilon[name])
        tensor.sub_(mean.div(denominator).mul_(self.rate[name] * mean_correction))

    def _corrections_of(self, name: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bias corrections. As in torch, they count only the steps that used the parameter."""
        if name not in self.skipped:
            return self._corrections[tensor.dim()]
        steps = self._step - self.skipped[name].cpu().double()
        corrections = 1 / (1 - self._beta1**steps), (1 - self._beta2**steps).rsqrt()
        mean, square = (value.to(tensor).view(-1, *(1,) * (tensor.dim() - 1)) for value in corrections)
        return mean, square
