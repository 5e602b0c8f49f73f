"""Conversion of a position on a ladder's axis to a learning rate, a batch size and a temperature.

The axis is the logarithm of the quantity that orders the ladder: a noise scale (ḡ or g) or the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from noisescale.estimate import Estimate, from_log, no_estimate
from noisescale.laws.quantities import NO_NOISE_SCALE
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE, TEMPERATURE

NORMALIZED = "ḡ = g·c/σ² of the read-out: rate multiplier c, initial standard deviation σ"


@dataclass(frozen=True)
class NoiseUnits:
    """The unit conversions for one width of one series.

    Args:
        quantity: Name of the ladder's quantity, a key of `QUANTITIES`; the axis is its logarithm.
        log_ratio: log(ḡ/g); 0 if the quantity is not ḡ.
        train_size: Training set size N, in examples.
        momentum: Momentum m.
        replacement: Whether batches are drawn with replacement.
        fixed: Quantity that is equal in all cells of the series, "learning_rate" or "batch_size".
        fixed_value: Value of the fixed quantity.
    """

    quantity: str
    log_ratio: float
    train_size: int
    momentum: float
    replacement: bool
    fixed: str
    fixed_value: float

    def rate(self, x: float) -> float:
        """Return the learning rate at a position on the axis."""
        if self.fixed == "learning_rate":
            return self.fixed_value
        if self.quantity == "learning_rate":
            return math.exp(x)
        noise, setting = math.exp(x - self.log_ratio), (self.fixed_value, self.train_size, self.momentum)
        return SGD_NOISE.rate(NOISE_SCALE.name, noise, *setting, replacement=self.replacement)

    def batch(self, x: float) -> float:
        """Return the batch size at a position on the axis, in examples, not rounded."""
        if self.fixed == "batch_size":
            return self.fixed_value
        noise, setting = math.exp(x - self.log_ratio), (self.fixed_value, self.train_size, self.momentum)
        return SGD_NOISE.batch_size(NOISE_SCALE.name, noise, *setting, replacement=self.replacement)

    def log_temperature(self, x: float) -> float:
        """Return the log temperature at a position on the axis; the position itself if it is infinite."""
        if not math.isfinite(x):
            return x
        return math.log(self.rate(x) / (self.batch(x) * (1 - self.momentum)))

    def estimates(self, value: float, low: float, high: float) -> dict[str, Estimate]:
        """Return the optimum in every unit.

        Args:
            value: Position of the optimum on the axis.
            low: Lower end of its interval.
            high: Upper end of its interval.

        Returns:
            Estimates of the normalized_noise_scale, noise_scale, learning_rate, batch_size and temperature, by name.
        """
        positions = (value, low, high)
        rates, batches = ([_unless_infinite(convert, x) for x in positions] for convert in (self.rate, self.batch))
        if self.fixed == "learning_rate":
            rate = Estimate(self.fixed_value, self.fixed_value, self.fixed_value, "1", "fixed in the series")
            # More noise means a smaller batch, so the ends swap.
            convention = f"B, at ε = {self.fixed_value:g}"
            batch = Estimate(batches[0], _swapped(batches[2]), _swapped(batches[1]), "examples", convention)
        else:
            rate = Estimate(rates[0], rates[1], rates[2], "1", f"ε, at B = {self.fixed_value:g}")
            batch = Estimate(self.fixed_value, self.fixed_value, self.fixed_value, "examples", "fixed in the series")
        return {**self._noise(positions), "learning_rate": rate, "batch_size": batch}

    def _noise(self, positions: tuple[float, float, float]) -> dict[str, Estimate]:
        noise_formula, temperature_formula = (m.formula(self.replacement) for m in (NOISE_SCALE, TEMPERATURE))
        if self.quantity == "learning_rate":
            undefined = no_estimate("1", NO_NOISE_SCALE)
            return {"normalized_noise_scale": undefined, "noise_scale": undefined, "temperature": undefined}
        normalized = self.quantity == "normalized_noise_scale"
        noise = [x - self.log_ratio for x in positions]
        temperatures = [self.log_temperature(x) for x in positions]
        return {
            "normalized_noise_scale": (
                from_log(*positions, "1", NORMALIZED) if normalized else no_estimate("1", "no layer grows with width")
            ),
            "noise_scale": from_log(noise[0], noise[1], noise[2], NOISE_SCALE.unit, noise_formula),
            "temperature": from_log(
                temperatures[0], temperatures[1], temperatures[2], TEMPERATURE.unit, temperature_formula
            ),
        }


def _unless_infinite(function: Callable[[float], float], x: float) -> float:
    return function(x) if math.isfinite(x) else x


def _swapped(end: float) -> float:
    return -end if math.isinf(end) else end
