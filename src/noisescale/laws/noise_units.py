"""From a place on the noise axis to a learning rate, a batch size and a temperature, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from noisescale.laws.interval import Estimate, from_log
from noisescale.noise_scale import batch_for_noise, rate_for_noise

NORMALIZED = "ḡ = g·c/σ² of the read-out: rate multiplier c, initial standard deviation σ"
NOISE = {
    False: "g = ε(N/B - 1)/(1 - m), without replacement",
    True: "g = εN/(B(1 - m)), with replacement",
}
TEMPERATURE = "ε/(B(1 - m))"


@dataclass(frozen=True)
class NoiseUnits:
    """The conversions of one width of one series.

    Args:
        log_ratio: log(ḡ/g).
        normalized: whether the axis is ḡ.
        train_size: N, examples.
        momentum: m.
        replacement: whether batches are drawn with replacement.
        fixed: learning_rate or batch_size, the one that the series holds.
        fixed_value: its value.
    """

    log_ratio: float
    normalized: bool
    train_size: int
    momentum: float
    replacement: bool
    fixed: str
    fixed_value: float

    def rate(self, x: float) -> float:
        """Learning rate at a place of the axis, in the series."""
        if self.fixed == "learning_rate":
            return self.fixed_value
        noise = math.exp(x - self.log_ratio)
        return rate_for_noise(noise, self.fixed_value, self.train_size, self.momentum, replacement=self.replacement)

    def batch(self, x: float) -> float:
        """Batch size at a place of the axis, in the series; not rounded."""
        if self.fixed == "batch_size":
            return self.fixed_value
        noise = math.exp(x - self.log_ratio)
        return batch_for_noise(noise, self.fixed_value, self.train_size, self.momentum, replacement=self.replacement)

    def log_temperature(self, x: float) -> float:
        """Log temperature at a place of the axis, in the series; infinite places stay infinite."""
        if not math.isfinite(x):
            return x
        return math.log(self.rate(x) / (self.batch(x) * (1 - self.momentum)))

    def estimates(self, value: float, low: float, high: float) -> dict[str, Estimate]:
        """The optimum in every unit.

        Args:
            value: place of the optimum on the axis.
            low: lower end.
            high: upper end.

        Returns:
            normalized_noise_scale, noise_scale, learning_rate, batch_size and temperature.
        """
        nothing = Estimate(math.nan, math.nan, math.nan, "1", "no layer grows with width")
        places = (value, low, high)
        noise = [place - self.log_ratio for place in places]
        rates = [_or_open(self.rate, place) for place in places]
        batches = [_or_open(self.batch, place) for place in places]
        heats = [self.log_temperature(place) for place in places]
        at_batch, at_rate = f"at B = {self.fixed_value:g}", f"at ε = {self.fixed_value:g}"
        if self.fixed == "learning_rate":
            rate = Estimate(self.fixed_value, self.fixed_value, self.fixed_value, "1", "held fixed in the series")
            # More noise is a smaller batch, so the ends change places.
            batch = Estimate(batches[0], _swapped(batches[2]), _swapped(batches[1]), "examples", f"B, {at_rate}")
        else:
            rate = Estimate(rates[0], rates[1], rates[2], "1", f"ε, {at_batch}")
            fixed = self.fixed_value
            batch = Estimate(fixed, fixed, fixed, "examples", "held fixed in the series")
        return {
            "normalized_noise_scale": from_log(*places, "1", NORMALIZED) if self.normalized else nothing,
            "noise_scale": from_log(noise[0], noise[1], noise[2], "examples", NOISE[self.replacement]),
            "learning_rate": rate,
            "batch_size": batch,
            "temperature": from_log(heats[0], heats[1], heats[2], "1/examples", TEMPERATURE),
        }


def _or_open(function: Callable[[float], float], place: float) -> float:
    return function(place) if math.isfinite(place) else place


def _swapped(end: float) -> float:
    return -end if math.isinf(end) else end
