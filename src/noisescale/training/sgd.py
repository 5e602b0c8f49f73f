"""SGD over the run axis: rate, momentum, decay and clipping are tensors, one entry per run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noisescale.parameterizations import Row, Table
from noisescale.runs import Run

Tensors = dict[str, Tensor]

# "coupled": λθ joins the gradient, and with it the velocity; "decoupled": θ shrinks by the factor 1 − ελ beside the
# update (Loshchilov, Hutter 2019, algorithm 1). Without momentum they are the same.
DECAYS = ("coupled", "decoupled")

# As in `torch.nn.utils.clip_grad_norm_`, for whose norm a gradient of zero is no division by zero.
_CLIP_EPSILON = 1e-6


class PackedSGD:
    """θ ← θ − ε_t c_l v, v ← m v + g + (λ_t/c_l) θ, as `torch.optim.SGD` does for the groups of `parameterize`.

    Nesterov's form takes g + (λ_t/c_l) θ + m v in the place of v. Decoupled, the decay is θ ← (1 − ε_t λ_t) θ: the same
    whether it is read as λ/c_l times the parameter's own rate or as λ times the base rate. With a bound G, g is the
    gradient times min(1, G/√(Σ_l c_l‖∂L/∂θ_l‖²)): the norm in the parameterization's coordinates, W = mθ, c = m².

    Every hyperparameter enters as a tensor [R, 1, …], or [R, rows, 1, …] where a tensor's rows differ in c, so nothing
    can go stale in a compiled step.

    Arguments:
        runs: the pack's runs. tables: one table a run. like: the parameters, for shapes, precision and device.
    Source:
        Nesterov: Sutskever, Martens, Dahl, Hinton 2013, in the form of `torch.optim.SGD`. Clipping: Pascanu, Mikolov,
        Bengio 2013, section 3.2.
    """

    def __init__(self, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> None:
        first, count = runs[0], len(runs)
        multipliers = _exact_multipliers(tables, like)

        def along_runs(values: list[float], tensor: Tensor) -> Tensor:
            return torch.tensor(values, dtype=torch.float64).view(count, *(1,) * (tensor.dim() - 1))

        def values(of: Callable[[Run], float], over: Callable[[Tensor, Tensor], Tensor]) -> Tensors:
            own = [of(run) for run in runs]
            return {name: over(along_runs(own, tensor), multipliers[name]) for name, tensor in like.items()}

        self._full_rate = _Together(values(lambda run: run.learning_rate, torch.mul), like)
        self._full_decay = _Together(values(lambda run: run.weight_decay, torch.div), like)
        self._rate, self._decay = self._full_rate.copy(), self._full_decay.copy()
        self._moving = self._full_rate.copy()
        # As many numbers as there are rates, so that the two can be multiplied.
        alike = values(lambda run: run.momentum, lambda own, multiplier: own.expand_as(multiplier))
        self._momentum = _Together(alike, like)
        self._multiplier = {name: multipliers[name].to(tensor) for name, tensor in like.items()}
        decays = any(run.weight_decay for run in runs)
        self._couples = decays and first.decay == "coupled"
        self._shrinks = decays and first.decay == "decoupled"
        self._nesterov, self._bound = first.nesterov, first.clip_norm
        # What follows from rate, decay and momentum: 1 − ελ, and the rate of a velocity that looks ahead.
        self._kept, self._ahead = self._full_rate.copy(), self._full_rate.copy()
        self._factors = 1.0, 1.0
        self._follow()

    def scale(self, rate: float, decay: float) -> None:
        """Multiply every run's rate and decay by a factor of the schedule, until other factors are given."""
        if self._factors == (rate, decay):
            return
        if self._factors[0] != rate:
            torch.mul(self._moving.flat, rate, out=self._rate.flat)
        if self._factors[1] != decay:
            torch.mul(self._full_decay.flat, decay, out=self._decay.flat)
        self._factors = rate, decay
        self._follow()

    def step(self, parameters: Tensors, velocity: Tensors, gradients: Tensors) -> None:
        """One step, in place; `velocity` is empty where no run of the pack has momentum."""
        if self._bound is not None:
            gradients = self._clipped(gradients, self._bound)
        for name, tensor in parameters.items():
            change, rate = gradients[name], self._rate[name]
            if self._couples:
                # In place, which saves a pass through memory; a gradient of zeros may be one number seen many times.
                change = change if change.is_contiguous() else change.contiguous()
                change.addcmul_(tensor, self._decay[name])
            if self._shrinks:
                tensor.mul_(self._kept[name])
            if velocity:
                own = velocity[name]
                torch.addcmul(change, own, self._momentum[name], out=own)
                if self._nesterov:
                    tensor.addcmul_(change, rate, value=-1)
                    rate = self._ahead[name]
                change = own
            tensor.addcmul_(change, rate, value=-1)

    def freeze(self, frozen: Tensor) -> None:
        """Stop the runs marked in `frozen` [R] by setting their rate to zero; all others go at their own."""
        self._moving.flat.copy_(self._full_rate.flat)
        for rate in self._moving.values():
            rate[frozen] = 0.0
        torch.mul(self._moving.flat, self._factors[0], out=self._rate.flat)
        self._follow()

    def _follow(self) -> None:
        """Compute what follows from rates and decays that have changed."""
        if self._shrinks:
            torch.mul(self._rate.flat, self._decay.flat, out=self._kept.flat).neg_().add_(1)
        if self._nesterov:
            torch.mul(self._rate.flat, self._momentum.flat, out=self._ahead.flat)

    def _clipped(self, gradients: Tensors, bound: float) -> Tensors:
        squares = [self._square(gradient, self._multiplier[name]) for name, gradient in gradients.items()]
        factor = (bound / (torch.stack(squares).sum(0).sqrt() + _CLIP_EPSILON)).clamp(max=1.0)
        return {name: gradient * factor.view(-1, *(1,) * (gradient.dim() - 1)) for name, gradient in gradients.items()}

    @staticmethod
    def _square(gradient: Tensor, multiplier: Tensor) -> Tensor:
        """c‖g‖² of every run, [R]."""
        if multiplier.shape[1:].numel() == 1:
            rows = gradient.flatten(1).unsqueeze(1)
            return torch.bmm(rows, rows.mT).flatten() * multiplier.flatten()
        return (gradient.square() * multiplier).flatten(1).sum(1)


class _Together(Tensors):
    """Small tensors by name that are views of one, `flat`, so that one operation changes them all."""

    def __init__(self, tensors: Tensors, like: Tensors) -> None:
        self.flat = torch.cat([tensor.flatten().to(like[name]) for name, tensor in tensors.items()])
        parts = torch.split(self.flat, [tensor.numel() for tensor in tensors.values()])
        super().__init__({name: part.view(one.shape) for (name, one), part in zip(tensors.items(), parts, strict=True)})

    def copy(self) -> _Together:
        return _Together(self, self)


def rate_multipliers(tables: Sequence[Table], like: Tensors) -> Tensors:
    """c_l of every parameter and run, [R, 1, …] each, in the precision and on the device of the parameters `like`."""
    return {name: own.to(like[name]) for name, own in _exact_multipliers(tables, like).items()}


def _exact_multipliers(tables: Sequence[Table], like: Tensors) -> Tensors:
    """c_l in float64, and m²c_l in the rows of the tensors whose rows differ."""
    columns = {row.name: [table[place] for table in tables] for place, row in enumerate(tables[0])}
    return {name: _multipliers(columns[name], tensor) for name, tensor in like.items()}


def _multipliers(rows: Sequence[Row], tensor: Tensor) -> Tensor:
    """c of one parameter of every run, [R, 1, …], or [R, rows, 1, …] where its rows differ."""
    shape = (len(rows),) + (1,) * (tensor.dim() - 1)
    multiplier = torch.tensor([row.multiplier for row in rows], dtype=torch.float64).view(shape)
    factors = [factors for row in rows if (factors := row.row_factors()) is not None]
    return multiplier * torch.stack(factors).square() if factors else multiplier
