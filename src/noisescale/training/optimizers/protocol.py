"""The interface of an optimizer: its options and parameter groups, and its update of R runs at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from noisescale.errors import BadInput
from noisescale.noise_laws import NoiseLaw
from noisescale.parameterizations import Row, Table
from noisescale.runs import Run
from noisescale.training.optimizers.run_tensors import (
    RunTensors,
    Tensors,
    along_runs,
    rate_factor,
    sgd_multiplier,
    table_multipliers,
)

# A tensor's rate includes the user's factor (`Row.rate_factor`), and c does not.
# "coupled": λ/c·θ is added to the gradient. "decoupled": θ is multiplied by 1 − (the tensor's rate)·λ (Loshchilov,
# Hutter 2019, algorithm 1, as in torch.optim.AdamW). "independent": θ is multiplied by 1 − ελ, whatever the tensor's
# rate multiplier.
DECAYS = ("coupled", "decoupled", "independent")

# Kinds of parameters that `training.no_decay` can name: gains of normalization layers, and biases and shifts.
NO_DECAY = ("gains", "biases")

# Added to the gradient norm, which may be zero, before the division by it, as in `torch.nn.utils.clip_grad_norm_`.
CLIP_EPSILON = 1e-6


class Optimizer(ABC):
    """One optimizer: its options, its update, its parameter groups and its noise law.

    A new optimizer is a subclass in one new file, and one row of `OPTIMIZERS`.
    """

    name: ClassVar[str]
    # Keys of `Run` that belong to this optimizer. Each key is an axis of the grid.
    hyperparameters: ClassVar[tuple[str, ...]] = ()
    # Default values of the hyperparameters.
    defaults: ClassVar[dict[str, float]] = {}
    # Accepted values of `training.decay`, the default first.
    decays: ClassVar[tuple[str, ...]] = ("decoupled", "independent")
    # The law by which rate, batch size and training-set size determine the noise. None if no law is known.
    noise: ClassVar[NoiseLaw | None] = None
    # Whether the optimizer accepts `training.nesterov`.
    has_nesterov: ClassVar[bool] = False
    # The power of m by which a hook multiplies the gradient of query rows that share a tensor with others.
    query_power: ClassVar[int] = 2

    def check(self, *, decay: str, nesterov: bool) -> None:
        """Refuse options that this optimizer does not have.

        Args:
            decay: The value of `training.decay`.
            nesterov: The value of `training.nesterov`.

        Raises:
            BadInput: The optimizer does not have this decay or Nesterov's momentum.
        """
        if decay not in self.decays:
            required = f"one of {', '.join(map(repr, self.decays))} with the optimizer {self.name!r}"
            raise BadInput("training.decay", required, repr(decay))
        if nesterov and not self.has_nesterov:
            raise BadInput("training.nesterov", f"false with the optimizer {self.name!r}", "true")

    def slot_names(self, runs: Sequence[Run]) -> tuple[str, ...]:
        """Return the names of the slots, the optimizer's state tensors for each parameter. All of them start at zero.

        Args:
            runs: The runs of the pack.
        """
        return ()

    def rate_multiplier(self, row: Row) -> tuple[float, float]:
        """Return the rate multiplier of a row of a parameterization's table, and the factor of its query rows.

        The default is for optimizers whose step is proportional to the gradient: with W = mθ, the rate of W is ε·m².

        Args:
            row: Row of the table.
        """
        return sgd_multiplier(row)

    @abstractmethod
    def for_pack(self, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> PackedOptimizer:
        """Return the update of R runs at once.

        Args:
            runs: The runs of the pack.
            tables: The parameterization's table of each run.
            like: The parameters, shape [R, …] each. Only their shapes, precision and device are used.
        """

    def group(self, row: Row, options: GroupOptions) -> dict[str, Any]:
        """Return the options of the `torch.optim` parameter group for the parameter of a row.

        Args:
            row: The row of the parameter in the parameterization's table.
            options: Rate, decay and hyperparameters.

        Returns:
            The group without its parameters.
        """
        rate = self.rate_multiplier(row)[0] * row.rate_factor
        return {"lr": options.learning_rate * rate, "weight_decay": group_decay(row, options, rate)}

    def scale_rows(self, row: Row, tensor: Tensor) -> RemovableHandle:
        """Add a hook that scales the gradient of the query rows by a power of m, so that they train at their rate.

        Args:
            row: The row of the parameter in the parameterization's table.
            tensor: The parameter.
        """
        scale = row.row_factors(row.query_factor**self.query_power)
        handle: RemovableHandle = tensor.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: gradient * scale.to(gradient)
        )
        return handle

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the `torch.optim` optimizer for parameter groups.

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
        decay: The kind of weight decay, one of `DECAYS`.
        no_decay: The kinds of parameters without decay, names in `NO_DECAY`.
        hyperparameters: Hyperparameters of the optimizer, by key.
    """

    learning_rate: float
    weight_decay: float = 0.0
    decay: str = "coupled"
    no_decay: tuple[str, ...] = ()
    hyperparameters: dict[str, Any] = field(default_factory=dict)


def group_decay(row: Row, options: GroupOptions, rate_multiplier: float) -> float:
    """Return the `weight_decay` of a torch parameter group.

    Args:
        row: The row of the parameter in the parameterization's table.
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

    This class handles rates, decays and clipping, which are common to all optimizers. Every hyperparameter is a tensor
    of shape [R, 1, …], or [R, rows, 1, …] if the rows of a parameter differ. A compiled step therefore contains no
    hyperparameter as a constant, which could become outdated.

    Args:
        optimizer: The optimizer of the runs.
        runs: The runs of the pack.
        tables: The parameterization's table of each run.
        like: The parameters, shape [R, …] each. Only their shapes, precision and device are used.

    Source:
        Clipping: Pascanu, Mikolov, Bengio 2013, section 3.2.
    """

    def __init__(self, optimizer: Optimizer, runs: Sequence[Run], tables: Sequence[Table], like: Tensors) -> None:
        any_run = runs[0]
        self._like = like
        self.skipped: Mapping[str, Tensor] = {}
        factors = table_multipliers(tables, like, rate_factor)
        multipliers = table_multipliers(tables, like, optimizer.rate_multiplier)
        self.multiplier = {name: multiplier * factors[name] for name, multiplier in multipliers.items()}
        self._sgd_multiplier = table_multipliers(tables, like, sgd_multiplier)
        rates = [run.learning_rate for run in runs]
        rate = {name: along_runs(rates, tensor) * self.multiplier[name] for name, tensor in like.items()}
        self._peak_rate = RunTensors(rate, like)
        # The rates before they are multiplied by the schedule's factor. The rates of frozen runs are zero.
        self._active_peak_rate = self._peak_rate.copy()
        self.rate = self._peak_rate.copy()
        decays = any(run.weight_decay for run in runs)
        self.couples = decays and any_run.decay == "coupled"
        self.shrinks = decays and any_run.decay != "coupled"
        self._peak_decay = RunTensors(self._decays(runs, tables), like)
        self.decay = self._peak_decay.copy()
        # 1 − rate·decay, the factor by which decay multiplies a parameter if decay does not act through the gradient.
        self.shrink_factor = self._peak_rate.copy()
        # The method of this class, because a subclass has not set the tensors that its method needs.
        PackedOptimizer.rates_changed(self)
        self._bound = any_run.clip_norm
        self._norm_multiplier = {name: self._sgd_multiplier[name].to(tensor) for name, tensor in like.items()}
        self._factors = 1.0, 1.0

    def prepare(self, step: int, rate_factor: float, decay_factor: float) -> None:
        """Apply the schedule's factors of a step, before the step.

        Args:
            step: The number of the step, from 1.
            rate_factor: The schedule's factor of the learning rate.
            decay_factor: The schedule's factor of the weight decay.
        """
        if self._factors == (rate_factor, decay_factor):
            return
        if self._factors[0] != rate_factor:
            torch.mul(self._active_peak_rate.flat, rate_factor, out=self.rate.flat)
        if self._factors[1] != decay_factor:
            torch.mul(self._peak_decay.flat, decay_factor, out=self.decay.flat)
        self._factors = rate_factor, decay_factor
        self.rates_changed()

    def step(
        self,
        parameters: Tensors,
        slots: dict[str, Tensors],
        gradients: Tensors,
        unused: Mapping[str, Sequence[int]] = MappingProxyType({}),
        skipped: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """Take one step, in place.

        Args:
            parameters: Parameters by name, shape [R, …] each.
            slots: The optimizer's state tensors (e.g. the velocity), by slot and parameter, shape [R, …] each.
            gradients: Gradients by parameter, shape [R, …] each.
            unused: Runs whose pass did not use a parameter, by parameter. Decay and momentum leave it as it is, as in
                `torch.optim`.
            skipped: Number of earlier steps in which each run did not use a parameter, by parameter, shape [R] each.
        """
        self.skipped = skipped
        couples, shrinks = self.couples, self.shrinks
        if self._bound is not None:
            gradients = self._clipped(gradients, self._bound)
        for name, tensor in parameters.items():
            gradient = gradients[name]
            if couples:
                # Adding in place saves a pass through memory. A gradient of zeros may be an expanded view of one
                # number, which cannot be changed in place, so it is copied.
                gradient = gradient if gradient.is_contiguous() else gradient.contiguous()
                gradient.addcmul_(tensor, self.decay[name])
            of_parameter = {slot: tensors[name] for slot, tensors in slots.items()} if slots else {}
            before, runs = [], list(unused[name]) if name in unused else []
            if runs:
                if len(runs) == len(tensor):
                    continue
                before = [(entry, entry[runs]) for entry in (tensor, *of_parameter.values())]
            if shrinks:
                tensor.mul_(self.shrink_factor[name])
            self.update_parameter(name, tensor, of_parameter, gradient)
            for entry, values in before:
                entry[runs] = values

    @abstractmethod
    def update_parameter(self, name: str, tensor: Tensor, slots: Tensors, gradient: Tensor) -> None:
        """Move one parameter and its slots by one step. Clipping and decay were applied before."""

    def freeze(self, frozen: Tensor) -> None:
        """Stop the runs marked in `frozen` [R] by setting their rates to zero. Restore the rates of all other runs."""
        self._active_peak_rate.flat.copy_(self._peak_rate.flat)
        for rate in self._active_peak_rate.values():
            rate[frozen] = 0.0
        torch.mul(self._active_peak_rate.flat, self._factors[0], out=self.rate.flat)
        self.rates_changed()

    def rates_changed(self) -> None:
        """Recompute the numbers that depend on rates and decays."""
        if self.shrinks:
            torch.mul(self.rate.flat, self.decay.flat, out=self.shrink_factor.flat).neg_().add_(1)

    def run_values(self, values: Sequence[float]) -> RunTensors:
        """Return one number per run for every parameter, in the shape of the rate multipliers."""
        return RunTensors(
            {name: along_runs(values, tensor).expand_as(self.multiplier[name]) for name, tensor in self._like.items()},
            self._like,
        )

    def _decays(self, runs: Sequence[Run], tables: Sequence[Table]) -> Tensors:
        """Return the numbers by which decay multiplies θ (coupled) or the tensor's rate (otherwise), in float64."""
        kind, no_decay = runs[0].decay, runs[0].no_decay.split()
        acts = {row.name: has_decay(row, no_decay) for row in tables[0]}
        values = [run.weight_decay for run in runs]
        decays = {}
        for name, tensor in self._like.items():
            decay = along_runs(values, tensor) * float(acts[name])
            divisor = {"coupled": self._sgd_multiplier[name], "independent": self.multiplier[name]}.get(kind)
            decays[name] = decay.expand_as(self.multiplier[name]) if divisor is None else decay / divisor
        return decays

    def _clipped(self, gradients: Tensors, bound: float) -> Tensors:
        """Scale the gradients of each run to a norm √(Σ c‖g‖²) of at most the bound.

        This is the norm of the gradient in θ, the parameterization's coordinates, where W = mθ and c = m².
        """
        squares = [self._square(gradient, self._norm_multiplier[name]) for name, gradient in gradients.items()]
        factor = (bound / (torch.stack(squares).sum(0).sqrt() + CLIP_EPSILON)).clamp(max=1.0)
        return {name: gradient * factor.view(-1, *(1,) * (gradient.dim() - 1)) for name, gradient in gradients.items()}

    @staticmethod
    def _square(gradient: Tensor, multiplier: Tensor) -> Tensor:
        """Return c‖g‖² of every run, [R]."""
        if multiplier.shape[1:].numel() == 1:
            rows = gradient.flatten(1).unsqueeze(1)
            return torch.bmm(rows, rows.mT).flatten() * multiplier.flatten()
        return (gradient.square() * multiplier).flatten(1).sum(1)
