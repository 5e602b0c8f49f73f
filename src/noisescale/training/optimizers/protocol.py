"""The interface of an optimizer: its options and parameter groups, and its update of R runs at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from noisescale.errors import BadInput
from noisescale.noise_laws import NoiseLaw
from noisescale.parameterizations import Row, Table
from noisescale.runs import Run
from noisescale.training.optimizers.run_tensors import RunTensors, Tensors, along_runs, table_multipliers

# "coupled": λ/c·θ joins the gradient. "decoupled": θ shrinks by the factor 1 − (the tensor's rate)·λ (Loshchilov,
# Hutter 2019, algorithm 1, as torch.optim.AdamW). "independent": θ shrinks by 1 − ελ for every multiplier.
DECAYS = ("coupled", "decoupled", "independent")

# Kinds of parameters that `training.no_decay` can name: gains of normalization layers, and biases and shifts.
NO_DECAY = ("gains", "biases")

# As in `torch.nn.utils.clip_grad_norm_`: a gradient of zero must not divide by zero.
_CLIP_EPSILON = 1e-6


class Optimizer(ABC):
    """One optimizer: its options, its update, its parameter groups and its noise law.

    A new optimizer is a subclass in one new file, and one row of `OPTIMIZERS`.
    """

    name: ClassVar[str]
    # Keys of `Run` that belong to this optimizer; each is an axis of the grid.
    hyperparameters: ClassVar[tuple[str, ...]] = ()
    # Default values of these keys.
    defaults: ClassVar[dict[str, float]] = {}
    # Accepted values of `training.decay`, the default first.
    decays: ClassVar[tuple[str, ...]] = ("decoupled", "independent")
    # How rate, batch size and training-set size determine the noise; None if no law is known.
    noise: ClassVar[NoiseLaw | None] = None
    # Whether it accepts `training.nesterov`.
    has_nesterov: ClassVar[bool] = False

    def check(self, *, decay: str, nesterov: bool) -> None:
        """Refuse options that this optimizer does not have.

        Args:
            decay: `training.decay`.
            nesterov: `training.nesterov`.

        Raises:
            BadInput: It does not have the option.
        """
        if decay not in self.decays:
            required = f"one of {', '.join(map(repr, self.decays))} with the optimizer {self.name!r}"
            raise BadInput("training.decay", required, repr(decay))
        if nesterov and not self.has_nesterov:
            raise BadInput("training.nesterov", f"false with the optimizer {self.name!r}", "true")

    def slot_names(self, runs: Sequence[Run]) -> tuple[str, ...]:
        """Return the names of the state tensors of each parameter. All start at zero.

        Args:
            runs: The runs of the pack.
        """
        return ()

    def rate_multiplier(self, row: Row) -> tuple[float, float]:
        """Return the rate multiplier of a row of a parameterization's table, and the factor of its query rows.

        The default fits an optimizer whose step is proportional to the gradient: with W = mθ the rate is ε·m².

        Args:
            row: Row of the table.
        """
        return row.multiplier, row.query_factor**2

    @abstractmethod
    def pack(self, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> PackedOptimizer:
        """Return the update of R runs at once.

        Args:
            runs: The runs of the pack.
            tables: The parameterization's table of each run.
            like: The parameters, [R, …] each, for shapes, precision and device.
        """

    def group(self, row: Row, options: GroupOptions) -> dict[str, Any]:
        """Return the options of a group of the `torch.optim` optimizer for the parameter of a row.

        Args:
            row: The parameter's row of the table.
            options: Rate, decay and hyperparameters.

        Returns:
            The group without its parameters.
        """
        rate = self.rate_multiplier(row)[0]
        return {"lr": options.learning_rate * rate, "weight_decay": group_decay(row, options, rate)}

    def scale_rows(self, row: Row, tensor: Tensor) -> RemovableHandle:
        """Add a hook that scales the gradient of the query rows by m², so that they train at their rate.

        Args:
            row: Row of the table.
            tensor: The parameter.

        Raises:
            BadInput: Scaled gradients do not change the rate of this optimizer.
        """
        scale = row.row_factors(row.query_factor**2)
        handle: RemovableHandle = tensor.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: gradient * scale.to(gradient)
        )
        return handle

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimizer of `torch.optim` for parameter groups.

        Raises:
            BadInput: `torch.optim` has no such optimizer.
        """
        raise BadInput("optimizer", "an optimizer that torch.optim has", repr(self.name))


@dataclass(frozen=True)
class GroupOptions:
    """Options of parameter groups.

    Args:
        learning_rate: Base rate ε.
        weight_decay: Weight decay λ, in the coordinates of the parameterization.
        decay: One of `DECAYS`.
        no_decay: Names in `NO_DECAY` of parameters without decay.
        hyperparameters: Hyperparameters of the optimizer, by key.
    """

    learning_rate: float
    weight_decay: float = 0.0
    decay: str = "coupled"
    no_decay: tuple[str, ...] = ()
    hyperparameters: dict[str, Any] = field(default_factory=dict)


def group_decay(row: Row, options: GroupOptions, rate_multiplier: float) -> float:
    """Return the `weight_decay` of a torch group.

    Args:
        row: Row of the table.
        options: Rate, decay and hyperparameters.
        rate_multiplier: Rate multiplier of the group.
    """
    if not has_decay(row, options.no_decay):
        return 0.0
    divisor = {"coupled": row.multiplier, "decoupled": 1.0, "independent": rate_multiplier}[options.decay]
    return options.weight_decay / divisor


def has_decay(row: Row, no_decay: Sequence[str]) -> bool:
    """Return whether weight decay acts on a parameter."""
    parameter = row.parameter
    constant = parameter.role == "other" and parameter.has_constant_start
    is_bias = parameter.role == "bias" or (constant and parameter.name.rpartition(".")[2] == "bias")
    return not (("biases" in no_decay and is_bias) or ("gains" in no_decay and constant and not is_bias))


class PackedOptimizer(ABC):
    """The update of R runs at once, in place.

    Rates, decays and clipping are common to all optimizers and handled here. Every hyperparameter is a tensor
    [R, 1, …], or [R, rows, 1, …] where the rows of a parameter differ, so that a compiled step never holds an old
    number.

    Args:
        optimizer: The row of the optimizer.
        runs: The runs of the pack.
        tables: The parameterization's table of each run.
        like: The parameters, [R, …] each, for shapes, precision and device.

    Source:
        Clipping: Pascanu, Mikolov, Bengio 2013, section 3.2.
    """

    def __init__(self, optimizer: Optimizer, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> None:
        first = runs[0]
        self._like = like
        self.multiplier = table_multipliers(tables, like, optimizer.rate_multiplier)
        rates = [run.learning_rate for run in runs]
        rate = {name: along_runs(rates, tensor) * self.multiplier[name] for name, tensor in like.items()}
        self._full_rate = RunTensors(rate, like)
        # The rates before the schedule's factor; those of frozen runs are zero.
        self._base_rate = self._full_rate.copy()
        self.rate = self._full_rate.copy()
        decays = any(run.weight_decay for run in runs)
        self.couples = decays and first.decay == "coupled"
        self.shrinks = decays and first.decay != "coupled"
        self._full_decay = RunTensors(self._decays(runs, tables), like)
        self.decay = self._full_decay.copy()
        # 1 − (rate times decay), the factor of a parameter under decay apart from the gradient.
        self.kept = self._full_rate.copy()
        self._bound = first.clip_norm
        squares = table_multipliers(tables, like, lambda row: (row.multiplier, row.query_factor**2))
        self._norm_multiplier = {name: squares[name].to(tensor) for name, tensor in like.items()}
        self._factors = 1.0, 1.0

    def prepare(self, step: int, rate: float, decay: float) -> None:
        """Set what changes from step to step, before the step.

        Args:
            step: The number of the step, from 1.
            rate: The schedule's factor of the learning rate.
            decay: The schedule's factor of the weight decay.
        """
        if self._factors == (rate, decay):
            return
        if self._factors[0] != rate:
            torch.mul(self._base_rate.flat, rate, out=self.rate.flat)
        if self._factors[1] != decay:
            torch.mul(self._full_decay.flat, decay, out=self.decay.flat)
        self._factors = rate, decay
        self.rates_changed()

    def step(self, parameters: Tensors, slots: dict[str, Tensors], gradients: Tensors) -> None:
        """Take one step, in place.

        Args:
            parameters: [R, …] each.
            slots: The optimizer's state by slot and parameter, [R, …] each.
            gradients: [R, …] each.
        """
        if self._bound is not None:
            gradients = self._clipped(gradients, self._bound)
        for name, tensor in parameters.items():
            gradient = gradients[name]
            if self.couples:
                # In place, which saves a pass through memory; a gradient of zeros may be one number seen many times.
                gradient = gradient if gradient.is_contiguous() else gradient.contiguous()
                gradient.addcmul_(tensor, self.decay[name])
            if self.shrinks:
                tensor.mul_(self.kept[name])
            self.update(name, tensor, {slot: tensors[name] for slot, tensors in slots.items()}, gradient)

    @abstractmethod
    def update(self, name: str, tensor: Tensor, slots: Tensors, gradient: Tensor) -> None:
        """Move one parameter, and its slots, by one step; clipping and decay have acted already."""

    def freeze(self, frozen: Tensor) -> None:
        """Stop the runs marked in `frozen` [R] by setting their rates to zero; restore those of all others."""
        self._base_rate.flat.copy_(self._full_rate.flat)
        for rate in self._base_rate.values():
            rate[frozen] = 0.0
        torch.mul(self._base_rate.flat, self._factors[0], out=self.rate.flat)
        self.rates_changed()

    def rates_changed(self) -> None:
        """Recompute what follows from rates and decays."""
        if self.shrinks:
            torch.mul(self.rate.flat, self.decay.flat, out=self.kept.flat).neg_().add_(1)

    def run_values(self, values: Sequence[float]) -> RunTensors:
        """Return one number per run for every parameter, with as many entries as the rates have."""
        return RunTensors(
            {name: along_runs(values, tensor).expand_as(self.multiplier[name]) for name, tensor in self._like.items()},
            self._like,
        )

    def _decays(self, runs: Sequence[Run], tables: Sequence[Table]) -> Tensors:
        """Return the number that multiplies θ (coupled) or the tensor's rate (otherwise), in float64."""
        kind, no_decay = runs[0].decay, runs[0].no_decay.split()
        acts = {row.name: has_decay(row, no_decay) for row in tables[0]}
        coupled = table_multipliers(tables, self._like, lambda row: (row.multiplier, row.query_factor**2))
        values = [run.weight_decay for run in runs]
        decays = {}
        for name, tensor in self._like.items():
            decay = along_runs(values, tensor) * float(acts[name])
            divisor = {"coupled": coupled[name], "independent": self.multiplier[name]}.get(kind)
            decays[name] = decay.expand_as(self.multiplier[name]) if divisor is None else decay / divisor
        return decays

    def _clipped(self, gradients: Tensors, bound: float) -> Tensors:
        """Scale the gradients of each run to a norm √(Σ c‖g‖²) of at most the bound.

        That is the norm in the parameterization's coordinates: W = mθ, c = m².
        """
        squares = [self._square(gradient, self._norm_multiplier[name]) for name, gradient in gradients.items()]
        factor = (bound / (torch.stack(squares).sum(0).sqrt() + _CLIP_EPSILON)).clamp(max=1.0)
        return {name: gradient * factor.view(-1, *(1,) * (gradient.dim() - 1)) for name, gradient in gradients.items()}

    @staticmethod
    def _square(gradient: Tensor, multiplier: Tensor) -> Tensor:
        """Return c‖g‖² of every run, [R]."""
        if multiplier.shape[1:].numel() == 1:
            rows = gradient.flatten(1).unsqueeze(1)
            return torch.bmm(rows, rows.mT).flatten() * multiplier.flatten()
        return (gradient.square() * multiplier).flatten(1).sum(1)
