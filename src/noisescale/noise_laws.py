"""The noise of an optimizer's updates as a function of learning rate, batch size, training-set size and momentum.

Every measure of noise here is proportional to the learning rate ε, so the ratio of a measure to ε defines it, and gives
the rate or the batch size at which the measure has a given value. An optimizer may refer to a `NoiseLaw`. If its law
has no noise scale g, scaling laws are fitted to ε at a fixed batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.errors import BadInput

# One number, or an array with one entry per run.
Number = TypeVar("Number", float, NDArray[np.float64], pd.Series)


@dataclass(frozen=True)
class NoiseMeasure:
    """One measure of noise, proportional to the learning rate.

    Args:
        name: Name of the measure, and its column in the table of runs.
        unit: The unit, for tables; "1" for a pure number.
        without_replacement: The formula for batches drawn without replacement.
        with_replacement: The formula for batches drawn with replacement.
        per_rate: Function of (B, N, m, replacement) that returns the measure divided by ε. B is the batch size, N the
            training set size, m the momentum.
        rate: Function of (value, B, N, m, replacement) that returns the rate ε at which the measure is `value`.
        batch_size: Function of (ratio, N, m, replacement) that returns the unrounded B at which measure/ε is `ratio`.
    """

    name: str
    unit: str
    without_replacement: str
    with_replacement: str
    per_rate: Callable[..., float]
    rate: Callable[[float, float, float, float, bool], float]
    batch_size: Callable[[float, float, float, bool], float]

    def formula(self, replacement: bool) -> str:
        """Return the formula, as tables print it."""
        return self.with_replacement if replacement else self.without_replacement


class NoiseLaw:
    """The measures of noise that an optimizer has.

    Args:
        measures: The measures.
    """

    def __init__(self, *measures: NoiseMeasure) -> None:
        self.measures: Mapping[str, NoiseMeasure] = {measure.name: measure for measure in measures}

    def __contains__(self, name: str) -> bool:
        return name in self.measures

    def per_rate(
        self, name: str, batch_size: Number, train_size: Number | float, momentum: Number | float = 0.0, *,
        replacement: bool = False,
    ) -> Number:  # fmt: skip
        """Return a measure of noise divided by the learning rate.

        Args:
            name: Name of the measure.
            batch_size: Batch size B, in examples; a number or an array.
            train_size: Training set size N, in examples.
            momentum: Momentum m, in [0, 1).
            replacement: Whether batches are drawn with replacement.

        Returns:
            The ratio, in the unit of the measure, with the shape of the arguments.

        Raises:
            BadInput: The optimizer has no such measure.
        """
        ratio: Number = self._measure(name).per_rate(batch_size, train_size, momentum, replacement)  # type: ignore[assignment]
        return ratio

    def rate(
        self, name: str, value: float, batch_size: float, train_size: float, momentum: float = 0.0, *,
        replacement: bool = False,
    ) -> float:  # fmt: skip
        """Return the learning rate at which a measure equals `value`. Other arguments are as in `per_rate`.

        Raises:
            BadInput: The optimizer has no such measure, or the gradient has no noise: the batch is the training set,
                drawn without replacement.
        """
        return self._measure(name).rate(value, batch_size, train_size, momentum, replacement)

    def batch_size(
        self, name: str, value: float, learning_rate: float, train_size: float, momentum: float = 0.0, *,
        replacement: bool = False,
    ) -> float:  # fmt: skip
        """Return the unrounded batch size at which a measure equals `value`. Other arguments are as in `per_rate`."""
        return self._measure(name).batch_size(value / learning_rate, train_size, momentum, replacement)

    def _measure(self, name: str) -> NoiseMeasure:
        if name not in self.measures:
            raise BadInput("noise", f"one of the optimizer's measures: {', '.join(self.measures)}", repr(name))
        return self.measures[name]


def _noise_scale_per_rate(batch_size: Number, train_size: Number, momentum: Number, replacement: bool) -> Number:
    return (train_size / batch_size - (0.0 if replacement else 1.0)) / (1 - momentum)


def _noise_scale_rate(value: float, batch_size: float, train_size: float, momentum: float, replacement: bool) -> float:
    if not replacement and batch_size >= train_size:
        required = f"below the {train_size:g} training examples: a batch of all examples, drawn without replacement, "
        raise BadInput("batch_size", f"{required}has no gradient noise, so no learning rate gives g", f"{batch_size:g}")
    return value / _noise_scale_per_rate(batch_size, train_size, momentum, replacement)


def _noise_scale_batch(ratio: float, train_size: float, momentum: float, replacement: bool) -> float:
    return train_size / (ratio * (1 - momentum) + (0.0 if replacement else 1.0))


# Smith, Le 2018; Park, Sohl-Dickstein, Le, Smith 2019, section 2. At B = N/2 the formula with replacement gives twice
# the value of the formula without replacement.
NOISE_SCALE = NoiseMeasure(
    "noise_scale",
    "examples",
    "g = ε(N/B - 1)/(1 - m), without replacement",
    "g = εN/(B(1 - m)), with replacement",
    _noise_scale_per_rate,
    _noise_scale_rate,
    _noise_scale_batch,
)

# Jastrzębski et al. 2017, section 2: the ratio of learning rate and batch size. The factor 1 − m is from Smith, Le
# 2018.
TEMPERATURE = NoiseMeasure(
    "temperature",
    "1/examples",
    "ε/(B(1 - m))",
    "ε/(B(1 - m))",
    lambda batch_size, _train_size, momentum, _replacement: 1 / (batch_size * (1 - momentum)),
    lambda value, batch_size, _train_size, momentum, _replacement: value * batch_size * (1 - momentum),
    lambda ratio, _train_size, momentum, _replacement: 1 / (ratio * (1 - momentum)),
)

# Malladi et al. 2022: the square-root rule, under which ε/√B is constant.
ADAM_TEMPERATURE = NoiseMeasure(
    "adam_temperature",
    "1/√examples",
    "ε/√B",
    "ε/√B",
    lambda batch_size, _train_size, _momentum, _replacement: batch_size**-0.5,
    lambda value, batch_size, _train_size, _momentum, _replacement: value * batch_size**0.5,
    lambda ratio, _train_size, _momentum, _replacement: ratio**-2.0,
)

SGD_NOISE = NoiseLaw(NOISE_SCALE, TEMPERATURE)
ADAM_NOISE = NoiseLaw(ADAM_TEMPERATURE)

# The columns of a study with measures of noise, in the order of its tables.
NOISE_COLUMNS = tuple(measure.name for measure in (NOISE_SCALE, TEMPERATURE, ADAM_TEMPERATURE))
