"""What `recommend` returns: a rate, a batch size and steps for one width, ready to hand over to `torch.optim`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, as_json
from noisescale.families import Factory
from noisescale.parameterizations import DEFAULT_INIT_SCALE, WITH_BASE_WIDTH
from noisescale.training import ParameterGroups, parameterize


@dataclass(frozen=True)
class Rung:
    """One batch size, with the learning rate that belongs to it.

    Args:
        batch_size: B, in examples.
        learning_rate: ε, with its interval.
        stability_edge: ε_½ at this batch and width; NaN where none was measured.
        steps: Steps that keep the study's training time ε·steps, or its epochs where those were held fixed.
        stable: Whether ε is at most half of the edge and its upper end at most the edge; None without an edge.
    """

    batch_size: int
    learning_rate: Estimate
    stability_edge: Estimate
    steps: int
    stable: bool | None


@dataclass(frozen=True)
class Recommendation:
    """The setting to train a width with.

    Args:
        schema_version: Version of the JSON form.
        width: Width of the network.
        parameterization: Parameterization of the group that the recommendation follows.
        init_scale: σ0² of that group; NaN where not recorded.
        momentum: m of that group.
        weight_decay: λ of that group.
        batch_size: B, in examples.
        learning_rate: ε at that batch.
        steps: Steps that keep the study's training time ε·steps, or its epochs where those were held fixed.
        normalized_noise_scale: ḡ at this width, with its prediction interval; NaN where the optimizer has no noise
            scale.
        noise_scale: g; NaN where the optimizer has none.
        temperature: ε/(B(1 - m)); NaN where the optimizer has none.
        stability_edge: ε_½ at that batch and width.
        ladder: Every batch size with its rate.
        metric: "accuracy" or "loss".
        select_on: The data on which the optima were chosen.
        train_size: N, in examples.
        basis: The sources of the rate and of the edge.
        validity: The conditions under which the numbers hold.
        warnings: Reasons for caution.
        input_shape: Shape of one input of the study's data; empty where only a fit was given.
        num_outputs: Outputs of the study's models; 0 where only a fit was given.
        base_width: The width at which that parameterization equals standard; None where it has none.
        query_rows: The weights that make an attention's queries, as the study's spec names them for mup.
        nesterov: Whether momentum is of Nesterov's form.
        optimizer_name: The optimizer, "sgd" or "adamw".
        hyperparameters: The optimizer's own hyperparameters, by key.
        decay: "coupled", "decoupled" or "independent".
        no_decay: "gains", "biases" or both: parameters without decay.
    """

    schema_version: int
    width: float
    parameterization: str
    init_scale: float
    momentum: float
    weight_decay: float
    batch_size: int
    learning_rate: Estimate
    steps: int
    normalized_noise_scale: Estimate
    noise_scale: Estimate
    temperature: Estimate
    stability_edge: Estimate
    ladder: tuple[Rung, ...]
    metric: str
    select_on: str
    train_size: int
    basis: tuple[str, ...]
    validity: tuple[str, ...]
    warnings: tuple[str, ...]
    input_shape: tuple[int, ...] = ()
    num_outputs: int = 0
    base_width: int | None = None
    query_rows: tuple[str, ...] = ()
    nesterov: bool = False
    optimizer_name: str = "sgd"
    hyperparameters: dict[str, float] | None = None
    decay: str = "coupled"
    no_decay: tuple[str, ...] = ()

    def optimizer(self, factory: Factory, *, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Build the recommended model and its optimizer of `torch.optim`, ready to use.

        Args:
            factory: `(width, input_shape, num_classes) -> nn.Module`, as a sweep takes it.
            seed: Fixes the initial weights, as a run's seed does in a sweep.

        Returns:
            The re-initialized model and the optimizer. Clipping is not part of `torch.optim`; `validity` names it.

        Raises:
            BadInput: As `parameter_groups`.
        """
        groups = self.parameter_groups(factory, seed=seed)
        return groups.model, groups.build()

    def parameter_groups(self, factory: Factory, *, seed: int = 0) -> ParameterGroups:
        """Build the recommended model and return its parameter groups for the optimizer of `torch.optim`.

        Args:
            factory: `(width, input_shape, num_classes) -> nn.Module`, as a sweep takes it.
            seed: Fixes the initial weights, as a run's seed does in a sweep.

        Returns:
            A list of groups; its attribute `model` is the re-initialized model. `validity` names what `torch.optim`
            does not do (clipping; for SGD, decay that is not coupled, which `optimizer` adds).

        Raises:
            BadInput: The recommendation was made from a fit alone, which does not know the shape of the data, or its
                width is not a whole number.
        """
        self._check_hand_over()
        width = int(self.width)
        # Where the parameterization keeps the module's own start, the seed must reach the factory, as in a sweep.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, reference = (factory(w, self.input_shape, self.num_outputs) for w in (width, 2 * width))
            base_width = self.base_width
            base = None if base_width is None else factory(base_width, self.input_shape, self.num_outputs)
        hyperparameters: dict[str, Any] = dict(self.hyperparameters or {})
        if self.optimizer_name == "sgd":
            hyperparameters = {"momentum": self.momentum, "nesterov": self.nesterov and self.momentum > 0}
        return parameterize(
            model,
            reference,
            self.parameterization,
            self.learning_rate.value,
            base=base,
            query_rows=self.query_rows,
            optimizer=self.optimizer_name,
            weight_decay=self.weight_decay if math.isfinite(self.weight_decay) else 0.0,
            decay=self.decay,
            no_decay=self.no_decay,
            init_scale=self.init_scale if math.isfinite(self.init_scale) else DEFAULT_INIT_SCALE,
            seed=seed,
            **hyperparameters,
        )

    def as_json(self) -> dict[str, object]:
        """Return the JSON form; open ends and missing values become None."""
        values: dict[str, object] = as_json(self)
        # In JSON there is no method of that name.
        return {("optimizer" if name == "optimizer_name" else name): value for name, value in values.items()}

    def _check_hand_over(self) -> None:
        if not self.input_shape:
            required = "a recommendation made from a study, which knows its data"
            raise BadInput("parameter_groups", required, "one made from a fit")
        if self.parameterization in WITH_BASE_WIDTH and self.base_width is None:
            required = f"a study that records the base width of {self.parameterization}"
            raise BadInput("parameter_groups", required, "none")
        if self.width != int(self.width):
            raise BadInput("width", "a whole number of units", self.width)
