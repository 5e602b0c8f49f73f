"""The `[grid]` section of a spec: the axes, and which of them an optimizer has."""

from __future__ import annotations

from typing import Annotated

from pydantic import ValidationInfo, field_validator, model_validator

from noisescale.parameterizations import PARAMETERIZATIONS, WITH_BASE_WIDTH
from noisescale.sweeps.axes import Fractions, NonNegativeNumbers, PositiveNumbers, WholeNumbers
from noisescale.sweeps.spec_values import Count, Schedules, Section, choices, key, names_from
from noisescale.training import OPTIMIZERS, hyperparameter_names

RATE_AXES = ("learning_rate", "noise_scale", "normalized_noise_scale", "temperature")


class GridSection(Section):
    """The axes. The grid is the cross product of all lists here."""

    width: WholeNumbers = key(
        "list or ladder of whole numbers above 0",
        "units of a hidden layer, or what your factory uses the width for",
    )
    batch_size: WholeNumbers = key(
        "list or ladder of whole numbers from 1 to N; below N where the rate follows from g or ḡ without replacement",
        "examples per step, B",
    )
    parameterization: Annotated[tuple[str, ...], names_from(PARAMETERIZATIONS)] = key(
        "list of " + choices(PARAMETERIZATIONS),
        "how width enters: initial standard deviation and rate multiplier c of each tensor. With d the fan-in of a "
        "weight, standard: √(σ0²/d) and 1; ntk: √(σ0²/d) and σ0²/d; improved_standard: √(σ0²/d) and base fan-in/d; "
        "mup: a table for SGD and one for Adam, equal to standard at a base width; own: your module's initialization"
        " and 1. AdamW multiplies its rate by √c except in mup",
        "Park, Sohl-Dickstein, Le, Smith 2019, section 2.1; Jacot, Gabriel, Hongler 2018; Sohl-Dickstein, Novak, "
        "Schoenholz, Lee 2020; Yang, Hu 2021",
        default=("ntk",),
    )
    optimizer: Annotated[tuple[str, ...], names_from(OPTIMIZERS)] = key(
        "list of " + choices(OPTIMIZERS),
        "the optimizer; each has its own optima and laws",
        "Loshchilov, Hutter 2019 for AdamW",
        default=("sgd",),
    )
    learning_rate: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: ε, before the parameterization's multipliers",
        default=None,
    )
    noise_scale: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: g = ε(N/B − 1)/(1 − m), with replacement εN/(B(1 − m)); examples",
        "Smith, Le 2018; Park et al. 2019, section 2",
        default=None,
    )
    normalized_noise_scale: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: ḡ = g·c/σ² of the read-out (rate multiplier c, initial variance σ²); needs a layer whose fan-in "
        "grows with width",
        "Park et al. 2019",
        default=None,
    )
    temperature: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "rate axis: T = ε/(B(1 − m)); 1/examples; SGD only",
        default=None,
    )
    momentum: Fractions = key(
        "list of numbers from 0 to below 1",
        "of SGD: m, heavy ball, as in `torch.optim.SGD`",
        default=(0.0,),
    )
    beta1: Fractions | None = key(
        "list of numbers from 0 to below 1",
        "of AdamW: decay rate of the average of gradients; not given: 0.9",
        "Kingma, Ba 2015",
        default=None,
    )
    beta2: Fractions | None = key(
        "list of numbers from 0 to below 1",
        "of AdamW: decay rate of the average of squared gradients; not given: 0.999",
        "Kingma, Ba 2015",
        default=None,
    )
    epsilon: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "of AdamW: the number ϵ added to √v̂; not given: 1e-8",
        "Kingma, Ba 2015",
        default=None,
    )
    weight_decay: NonNegativeNumbers = key(
        "list of numbers of at least 0",
        "λ; `training.decay` says how it acts",
        default=(0.0,),
    )
    init_scale: PositiveNumbers = key(
        "list or ladder of numbers above 0",
        "σ0², the variance of a weight times its fan-in; without effect under own",
        "He, Zhang, Ren, Sun 2015",
        default=(2.0,),
    )
    label_noise: Fractions | None = key(
        "list of numbers from 0 to below 1",
        "as `dataset.label_noise`, varied; not given: that one value",
        default=None,
    )
    schedule: Schedules | None = key(
        "list of tables, see [Schedules](#schedules)",
        "as `training.schedule`, varied; not given: that one",
        default=None,
    )
    steps: WholeNumbers | None = key(
        "list or ladder of whole numbers above 0",
        "budgets in steps; ladders grow at the longest one only",
        default=None,
    )
    epochs: PositiveNumbers | None = key(
        "list or ladder of numbers above 0",
        "budgets in epochs; an epoch is ⌊N/B⌋ steps, and the product is rounded",
        default=None,
    )
    base_width: Count | None = key(
        "whole number above 0",
        "where improved_standard and mup equal standard; not given: the smallest width",
        default=None,
        validate_default=True,
    )

    @field_validator("base_width")
    @classmethod
    def _base_width_where_it_is_used(cls, value: int | None, info: ValidationInfo) -> int | None:
        used = any(name in WITH_BASE_WIDTH for name in info.data.get("parameterization", WITH_BASE_WIDTH))
        if value is not None and not used:
            names = " or ".join(WITH_BASE_WIDTH)
            raise ValueError(f"no base width where grid.parameterization names neither {names}; got {value}")
        return min(info.data["width"]) if value is None and used and "width" in info.data else value

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
