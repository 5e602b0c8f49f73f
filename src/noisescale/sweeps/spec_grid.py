"""The `[grid]` section of a spec: the axes of the grid, and a check that each optimizer has the stated axes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ValidationInfo, field_serializer, field_validator, model_validator

from noisescale.families import FIXED_WIDTH
from noisescale.parameterizations import PARAMETERIZATIONS, WITH_BASE_WIDTH
from noisescale.sweeps.axes import Fractions, NonNegativeNumbers, PositiveNumbers, WholeNumbers
from noisescale.sweeps.spec_values import Count, Schedules, Section, choices, key, names_from
from noisescale.training import OPTIMIZERS, hyperparameter_names

RATE_AXES = ("learning_rate", "noise_scale", "normalized_noise_scale", "temperature")


class GridSection(Section):
    """The axes of the grid. The grid is the cross product of all lists in this section."""

    width: WholeNumbers = key(
        "list or ladder of whole numbers above 0",
        "width of the network: units of a hidden layer, or whatever your factory uses the width for. Without this key, "
        "the model is one fixed model of yours, in the parameterization own if the spec names none",
        default=None,
        validate_default=True,
    )
    batch_size: WholeNumbers = key(
        "list or ladder of whole numbers from 1 to N; below N if the rate axis is g or ḡ and batches are drawn without "
        "replacement",
        "batch size B, in examples",
    )
    parameterization: Annotated[tuple[str, ...], names_from(PARAMETERIZATIONS)] = key(
        "list of " + choices(PARAMETERIZATIONS),
        "sets the initial standard deviation and the rate multiplier c of each tensor. For a weight with fan-in d: "
        "standard has √(σ0²/d) and 1; ntk has √(σ0²/d) and σ0²/d; improved_standard has √(σ0²/d) and base fan-in/d; "
        "mup has one table for SGD and one for Adam, and equals standard at the base width; own keeps your module's "
        "initialization, with c = 1. AdamW multiplies its rate by √c, except in mup",
        "Park, Sohl-Dickstein, Le, Smith 2019, section 2.1; Jacot, Gabriel, Hongler 2018; Sohl-Dickstein, Novak, "
        "Schoenholz, Lee 2020; Yang, Hu 2021",
        default=("ntk",),
    )
    optimizer: Annotated[tuple[str, ...], names_from(OPTIMIZERS)] = key(
        "list of " + choices(OPTIMIZERS),
        "the optimizer. Optima and laws are fitted for each optimizer separately",
        "Loshchilov, Hutter 2019 for AdamW",
        default=("sgd",),
    )
    learning_rate: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: the learning rate ε. The parameterization multiplies it by c",
        default=None,
    )
    noise_scale: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: the noise scale g = ε(N/B − 1)/(1 − m), or εN/(B(1 − m)) with replacement, in examples; SGD only",
        "Smith, Le 2018; Park et al. 2019, section 2",
        default=None,
    )
    normalized_noise_scale: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: the normalized noise scale ḡ = g·c/σ² of the read-out, with its rate multiplier c and its initial "
        "variance σ². The model needs a layer whose fan-in grows with width; SGD only",
        "Park et al. 2019",
        default=None,
    )
    temperature: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: the temperature T = ε/(B(1 − m)), in 1/examples; SGD only",
        default=None,
    )
    momentum: Fractions = key(
        "list of numbers from 0 to below 1",
        "momentum m of SGD, as in `torch.optim.SGD`",
        default=(0.0,),
    )
    beta1: Fractions | None = key(
        "list of numbers from 0 to below 1",
        "AdamW's decay rate of the average of gradients; 0.9 if not given",
        "Kingma, Ba 2015",
        default=None,
    )
    beta2: Fractions | None = key(
        "list of numbers from 0 to below 1",
        "AdamW's decay rate of the average of squared gradients; 0.999 if not given",
        "Kingma, Ba 2015",
        default=None,
    )
    epsilon: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "the number ϵ that AdamW adds to √v̂; 1e-8 if not given",
        "Kingma, Ba 2015",
        default=None,
    )
    weight_decay: NonNegativeNumbers = key(
        "list of numbers of at least 0",
        "weight decay λ; `training.decay` says how it acts",
        default=(0.0,),
    )
    init_scale: PositiveNumbers = key(
        "list or ladder of numbers above 0",
        "σ0², the initial variance of a weight times its fan-in; has no effect with own",
        "He, Zhang, Ren, Sun 2015",
        default=(2.0,),
    )
    label_noise: Fractions | None = key(
        "list of numbers from 0 to below 1",
        "fractions of redrawn labels to compare; the value of `dataset.label_noise` if not given",
        default=None,
    )
    schedule: Schedules | None = key(
        "list of tables, see [Schedules](#schedules)",
        "schedules to compare; `training.schedule` if not given",
        default=None,
    )
    steps: WholeNumbers | None = key(
        "list or ladder of whole numbers above 0",
        "budgets to compare, in steps. Ladders are extended at the longest budget only",
        default=None,
    )
    epochs: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "budgets to compare, in epochs. An epoch is ⌊N/B⌋ steps; the number of steps is rounded",
        default=None,
    )
    train_size: WholeNumbers | None = key(
        "list or ladder of whole numbers above 0",
        "numbers of training examples to compare, before the validation split. A smaller set is part of a larger one. "
        "`dataset.train_size` if not given",
        default=None,
    )
    base_width: Count | None = key(
        "whole number above 0",
        "the width at which improved_standard and mup equal standard; the smallest width if not given",
        default=None,
        validate_default=True,
    )

    @field_validator("width", mode="before")
    @classmethod
    def _width_of_a_fixed_model(cls, value: Any) -> Any:
        return (FIXED_WIDTH,) if value is None else value

    @field_validator("base_width")
    @classmethod
    def _base_width_where_it_is_used(cls, value: int | None, info: ValidationInfo) -> int | None:
        used = any(name in WITH_BASE_WIDTH for name in info.data.get("parameterization", WITH_BASE_WIDTH))
        if value is not None and not used:
            names = " or ".join(WITH_BASE_WIDTH)
            raise ValueError(f"no base width where grid.parameterization names neither {names}; got {value}")
        return min(info.data["width"]) if value is None and used and "width" in info.data else value

    @model_validator(mode="before")
    @classmethod
    def _without_width(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("width") is not None:
            return values
        return {"parameterization": ["own"], **{name: value for name, value in values.items() if name != "width"}}

    @field_serializer("width")
    def _stated_width(self, width: tuple[int, ...]) -> tuple[int, ...] | None:
        return None if self.fixed else width

    @property
    def fixed(self) -> bool:
        """Whether the spec states no width, because it has one fixed model."""
        return "width" not in self.model_fields_set

    @model_validator(mode="after")
    def _parameterization_without_width(self) -> GridSection:
        growing = [name for name in self.parameterization if name in WITH_BASE_WIDTH]
        if self.fixed and growing:
            raise ValueError(f"grid.width where grid.parameterization names {', '.join(growing)}; got none")
        return self

    @property
    def rate_axis(self) -> str:
        """The one axis that determines the learning rate of each run."""
        return next(name for name in RATE_AXES if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_rate_axis(self) -> GridSection:
        given = [name for name in RATE_AXES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(RATE_AXES)}; got {', '.join(given) or 'none'}")
        return self

    @model_validator(mode="after")
    def _axes_that_an_optimizer_has(self) -> GridSection:
        rows = [OPTIMIZERS[name] for name in self.optimizer]
        names = ", ".join(map(repr, self.optimizer))
        measure = "noise_scale" if self.rate_axis == "normalized_noise_scale" else self.rate_axis
        for row in rows:
            if measure != "learning_rate" and (row.noise is None or measure not in row.noise):
                raise ValueError(
                    f"learning_rate as the axis of rates with the optimizer {row.name!r}; got {self.rate_axis}"
                )
        for name in hyperparameter_names():
            values = getattr(self, name)
            is_given = values not in (None, type(self).model_fields[name].default)
            if is_given and not any(name in row.hyperparameters for row in rows):
                raise ValueError(f"no {name}, which the optimizers {names} do not have; got {values}")
        return self
