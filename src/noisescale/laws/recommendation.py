"""The result of `recommend`: a learning rate, a batch size and steps for one width, ready for `torch.optim`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from noisescale.errors import BadInput
from noisescale.estimate import Estimate, as_json
from noisescale.families import Factory, FixedModel
from noisescale.input_shapes import InputShape
from noisescale.laws.expected_metrics import ExpectedMetric
from noisescale.parameterizations import DEFAULT_INIT_SCALE, WITH_BASE_WIDTH, reference_width
from noisescale.seeding import seeded
from noisescale.training import ParameterGroups, parameterize, parse_schedule


@dataclass(frozen=True)
class Rung:
    """A batch size and its learning rate.

    Args:
        batch_size: Batch size B, in examples.
        learning_rate: Learning rate ε, with its interval.
        stability_edge: Largest stable learning rate ε_½ at this batch size and width; NaN if not measured.
        steps: Training steps that keep the study's training time ε·steps, or its number of epochs if that was fixed.
        stable: True if ε is at most half of the edge and the upper end of its interval at most the edge; None if no
            edge was measured.
        expected_metric: Metric that this rung is expected to reach at the width.
        expected_regret: Expected loss in the metric against the best setting of the width, with its 95 % bound.
        reason: Reason why this rung is not recommended; empty if it may be.
    """

    batch_size: int
    learning_rate: Estimate
    stability_edge: Estimate
    steps: int
    stable: bool | None
    expected_metric: ExpectedMetric
    expected_regret: Estimate
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """The recommended hyperparameters for one width.

    Args:
        schema_version: Version of the JSON form.
        width: Width of the network.
        parameterization: Parameterization of the group of runs that the recommendation follows. The runs of a group
            have equal hyperparameters.
        init_scale: Initial scale σ0² of the group; NaN if not recorded.
        momentum: Momentum m of the group.
        weight_decay: Weight decay λ of the group.
        batch_size: Recommended batch size B, in examples.
        learning_rate: Recommended learning rate ε at this batch size.
        steps: Training steps that keep the study's training time ε·steps, or its number of epochs if that was fixed.
        normalized_noise_scale: Normalized noise scale ḡ at this width, with its prediction interval; NaN if the
            optimizer has no noise scale, or no layer grows with width.
        noise_scale: Noise scale g; NaN if the optimizer has none.
        temperature: Temperature ε/(B(1 - m)); NaN if the optimizer has none.
        stability_edge: Largest stable learning rate ε_½ at this batch size and width.
        expected_metric: Metric that the recommendation is expected to reach; NaN if no law is known.
        expected_regret: Expected loss in the metric against the best setting of the width, with its 95 % bound; NaN if
            no law is known.
        prefer: Preference that chose the rung, a name in `PREFERENCES`.
        tolerance: Loss that the preference allows, as a share of the span.
        span: Span of the metric: the distance from the constant predictor to the best cell.
        ladder: All batch sizes with their learning rates.
        metric: Metric that chose the optima, a name in `METRICS`.
        select_on: Data set that chose the optima, "test" or "validation".
        train_size: Training set size N, in examples.
        basis: Sources of the learning rate and of the edge.
        validity: Conditions under which the numbers hold.
        warnings: Reasons for caution.
        input_shape: Shape of one input of the study's data; empty if the recommendation was made from a fit.
        num_outputs: Number of outputs of the study's models; 0 if the recommendation was made from a fit.
        base_width: Width at which the parameterization equals "standard"; None if it has no base width.
        query_rows: Weights that compute an attention's queries, as the study's spec names them for the parameterization
            "mup".
        nesterov: Whether momentum has Nesterov's form.
        optimizer_name: A name in `OPTIMIZERS`.
        hyperparameters: Hyperparameters of the optimizer, by key.
        decay: Form of weight decay, "coupled", "decoupled" or "independent".
        no_decay: Parameters without decay: "gains", "biases" or both.
        rate_multipliers: Factors of the rate by pattern of parameter names; None without factors.
        schedule_text: Schedule of the learning rate or the batch size, as a run stores it.
        fixed: Whether the study has one fixed model without a width. `width` is then 1.
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
    expected_metric: ExpectedMetric
    expected_regret: Estimate
    prefer: str
    tolerance: float
    span: float
    ladder: tuple[Rung, ...]
    metric: str
    select_on: str
    train_size: int
    basis: tuple[str, ...]
    validity: tuple[str, ...]
    warnings: tuple[str, ...]
    input_shape: InputShape = ()
    num_outputs: int = 0
    base_width: int | None = None
    query_rows: tuple[str, ...] = ()
    nesterov: bool = False
    optimizer_name: str = "sgd"
    hyperparameters: dict[str, float] | None = None
    decay: str = "coupled"
    no_decay: tuple[str, ...] = ()
    rate_multipliers: dict[str, float] | None = None
    schedule_text: str = "constant"
    fixed: bool = False

    def optimizer(self, factory: Factory, *, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Build the recommended model and its `torch.optim` optimizer.

        Args:
            factory: `(width, input_shape, num_classes) -> nn.Module`, as in a sweep. For a study of one fixed model,
                also the model, or a function `(input_shape, num_classes)` or `()` that returns it.
            seed: Seed of the initial weights, as for a run of a sweep.

        Returns:
            The re-initialized model and the optimizer. The optimizer does not clip gradients; `validity` names the
            clipping, and `parameter_groups` has a method for it.

        Raises:
            BadInput: In the cases that `parameter_groups` lists.
        """
        groups = self.parameter_groups(factory, seed=seed)
        return groups.model, groups.build()

    def parameter_groups(self, factory: Factory, *, seed: int = 0) -> ParameterGroups:
        """Build the recommended model and return its parameter groups for `torch.optim`.

        Args:
            factory: `(width, input_shape, num_classes) -> nn.Module`, as in a sweep. For a study of one fixed model,
                also the model, or a function `(input_shape, num_classes)` or `()` that returns it.
            seed: Seed of the initial weights, as for a run of a sweep.

        Returns:
            A list of groups; its attribute `model` is the re-initialized model. `validity` names the options that
            `torch.optim` does not cover: clipping (the list's method `clip_gradients`) and, for SGD, decoupled or
            independent decay (`optimizer` adds it).

        Raises:
            BadInput: The recommendation was made from a fit, which does not know the shape of the data; the study does
                not record the base width that the parameterization needs; or the width is not a whole number.
        """
        self._check_buildable()
        given: object = factory
        if not self.fixed and not callable(given):
            raise BadInput("factory", "a function (width, input_shape, num_classes) -> nn.Module", repr(given))
        width = int(self.width)
        if self.fixed:
            factory = FixedModel(factory, "the factory", allow_width=True)
        # The parameterization "own" keeps the module's initialization, so the seed must reach the factory, as in a
        # sweep.
        with seeded(seed):
            model, reference = (factory(w, self.input_shape, self.num_outputs) for w in (width, reference_width(width)))
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
            rate_multipliers=self.rate_multipliers or {},
            init_scale=self.init_scale if math.isfinite(self.init_scale) else DEFAULT_INIT_SCALE,
            seed=seed,
            **hyperparameters,
        )

    @property
    def schedule_changes_batch(self) -> bool:
        """Whether the schedule changes the batch size instead of the learning rate."""
        return parse_schedule(self.schedule_text).of == "batch_size"

    def schedule(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        """Build the torch scheduler of the study's schedule, over the recommended number of steps.

        The rate of step k, counted from 0, is ε·f(k/steps). Call `scheduler.step()` after each `optimizer.step()`.

        Args:
            optimizer: The optimizer, from `optimizer`.

        Returns:
            The scheduler.

        Raises:
            BadInput: The schedule changes the batch size or the weight decay.
        """
        schedule, steps = parse_schedule(self.schedule_text), self.steps
        if self.schedule_changes_batch or schedule.changes_decay:
            required = "a schedule of the learning rate only; change the batch size or the decay in the loop"
            raise BadInput("schedule", required, self.schedule_text)
        return LambdaLR(optimizer, lambda step: schedule.warmed(min(step / steps, 1.0), steps))

    def as_json(self) -> dict[str, object]:
        """Return the JSON form; infinite ends and missing values become None."""
        values: dict[str, object] = as_json(self)
        # Python needs the longer names because `optimizer` and `schedule` are methods; JSON does not.
        shorter = {"optimizer_name": "optimizer", "schedule_text": "schedule"}
        return {shorter.get(name, name): value for name, value in values.items()}

    def _check_buildable(self) -> None:
        if not self.input_shape:
            required = "a recommendation made from a study, which knows its data"
            raise BadInput("parameter_groups", required, "a recommendation made from a fit")
        if self.parameterization in WITH_BASE_WIDTH and self.base_width is None:
            required = f"a study that records the base width of {self.parameterization}"
            raise BadInput("parameter_groups", required, "none")
        if self.width != int(self.width):
            raise BadInput("width", "a whole number of units", self.width)
