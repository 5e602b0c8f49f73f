"""From a place on a ladder's axis to a learning rate, a batch size and a temperature, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from noisescale.estimate import Estimate, from_log
from noisescale.noise_laws import NOISE_SCALE, SGD_NOISE, TEMPERATURE

NORMALIZED = "ḡ = g·c/σ² of the read-out: rate multiplier c, initial standard deviation σ"


@dataclass(frozen=True)
class NoiseUnits:
    """The conversions of one width of one series.

    Args:
        quantity: Name of the ladder's quantity, a key of `QUANTITIES`; the axis is its logarithm.
        log_ratio: log(ḡ/g); 0 where the quantity is not ḡ.
        train_size: N, in examples.
        momentum: m.
        replacement: Whether batches are drawn with replacement.
        fixed: "learning_rate" or "batch_size", the one that the series holds.
        fixed_value: Its value.
    """

    quantity: str
    log_ratio: float
    train_size: int
    momentum: float
    replacement: bool
    fixed: str
    fixed_value: float

    def rate(self, x: float) -> float:
        """Return the learning rate at a place of the axis."""
        if self.fixed == "learning_rate":
            return self.fixed_value
        if self.quantity == "learning_rate":
            return math.exp(x)
        noise, setting = math.exp(x - self.log_ratio), (self.fixed_value, self.train_size, self.momentum)
        return SGD_NOISE.rate(NOISE_SCALE.name, noise, *setting, replacement=self.replacement)

    def batch(self, x: float) -> float:
        """Return the batch size at a place of the axis, not rounded."""
        if self.fixed == "batch_size":
            return self.fixed_value
        noise, setting = math.exp(x - self.log_ratio), (self.fixed_value, self.train_size, self.momentum)
        return SGD_NOISE.batch_size(NOISE_SCALE.name, noise, *setting, replacement=self.replacement)

    def log_temperature(self, x: float) -> float:
        """Return the log temperature at a place of the axis; infinite places stay infinite."""
        if not math.isfinite(x):
            return x
        return math.log(self.rate(x) / (self.batch(x) * (1 - self.momentum)))

    def estimates(self, value: float, low: float, high: float) -> dict[str, Estimate]:
        """Return the optimum in every unit.

        Args:
            value: The place of the optimum on the axis.
            low: The lower end of its interval.
            high: The upper end.

        Returns:
            normalized_noise_scale, noise_scale, learning_rate, batch_size and temperature.
        """
        places = (value, low, high)
        rates, batches = ([_or_open(convert, place) for place in places] for convert in (self.rate, self.batch))
        if self.fixed == "learning_rate":
            rate = Estimate(self.fixed_value, self.fixed_value, self.fixed_value, "1", "held fixed in the series")
            # More noise is a smaller batch, so the ends change places.
            convention = f"B, at ε = {self.fixed_value:g}"
            batch = Estimate(batches[0], _swapped(batches[2]), _swapped(batches[1]), "examples", convention)
        else:
            rate = Estimate(rates[0], rates[1], rates[2], "1", f"ε, at B = {self.fixed_value:g}")
            batch = Estimate(
                self.fixed_value, self.fixed_value, self.fixed_value, "examples", "held fixed in the series"
            )
        return {**self._noise(places), "learning_rate": rate, "batch_size": batch}

    def _noise(self, places: tuple[float, float, float]) -> dict[str, Estimate]:
        noise_formula, temperature_formula = (m.formula(self.replacement) for m in (NOISE_SCALE, TEMPERATURE))
        if self.quantity == "learning_rate":
            nothing = _nothing("the optimizer has no noise scale")
            return {"normalized_noise_scale": nothing, "noise_scale": nothing, "temperature": nothing}
        normalized = self.quantity == "normalized_noise_scale"
        noise = [place - self.log_ratio for place in places]
        heats = [self.log_temperature(place) for place in places]
        return {
            "normalized_noise_scale": (
                from_log(*places, "1", NORMALIZED) if normalized else _nothing("no layer grows with width")
            ),
            "noise_scale": from_log(noise[0], noise[1], noise[2], NOISE_SCALE.unit, noise_formula),
            "temperature": from_log(heats[0], heats[1], heats[2], TEMPERATURE.unit, temperature_formula),
        }


def _nothing(reason: str) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, "1", reason)


def _or_open(function: Callable[[float], float], place: float) -> float:
    return function(place) if math.isfinite(place) else place


def _swapped(end: float) -> float:
    return -end if math.isinf(end) else end
