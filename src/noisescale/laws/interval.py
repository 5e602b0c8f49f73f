"""The one shape in which an estimated number leaves the package."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95
_NORMAL_QUANTILE = float(ndtri(0.5 + CONFIDENCE / 2))


def student_quantile(degrees: float, probability: float) -> float:
    """Quantile of Student's t distribution.

    Args:
        degrees: degrees of freedom; at or below 0 no quantile exists.
        probability: cumulative probability, in (0, 1).

    Returns:
        t with P(T <= t) = probability; infinity where `degrees` is not positive.
    """
    return float(stdtrit(degrees, probability)) if degrees > 0 else math.inf


def two_sided(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Half-width, in standard errors, of a two-sided t interval of that confidence."""
    return student_quantile(degrees, 0.5 + confidence / 2)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, unit and convention.

    Args:
        value: the point estimate; NaN where there is none.
        low: lower end; -inf where the data do not bound it, NaN where no interval can be given.
        high: upper end; inf where the data do not bound it, NaN where no interval can be given.
        unit: for example "examples", "steps", "fraction", "nats"; "1" for a pure number.
        convention: how the number is defined, in words or as a formula.
    """

    value: float
    low: float
    high: float
    unit: str
    convention: str

    @property
    def bounded(self) -> bool:
        """Whether both ends of the interval are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def log_error(self) -> float:
        """Standard error of the logarithm, the log interval's width over twice the normal quantile; NaN where open."""
        if not (self.bounded and self.low > 0):
            return math.nan
        return math.log(self.high / self.low) / (2 * _NORMAL_QUANTILE)

    def covers(self, truth: float) -> bool:
        """Whether the interval holds `truth` (an unbounded side holds everything on its side)."""
        return self.low <= truth <= self.high

    def as_json(self) -> dict[str, float | str | None]:
        """The dictionary {value, low, high, unit, convention}; infinities and NaN become None."""
        return {
            "value": _finite(self.value),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "unit": self.unit,
            "convention": self.convention,
        }

    def __str__(self) -> str:
        ends = [f"{end:.4g}" if math.isfinite(end) else "?" for end in (self.low, self.high)]
        value = f"{self.value:.4g}" if math.isfinite(self.value) else "?"
        return f"{value} [{ends[0]}, {ends[1]}]"


def mean_over_seeds(
    values: NDArray[np.float64], unit: str, convention: str, confidence: float = CONFIDENCE
) -> Estimate:
    """The mean with its Student t interval, mean ± t·s/√n; open with fewer than two values, NaN with none.

    Args:
        values: one for each seed, shape [seeds].
        unit: of the values.
        convention: what a value is.
        confidence: level of the interval.

    Returns:
        The estimate; its convention adds "mean over seeds".
    """
    mean = float(values.mean()) if values.size else math.nan
    error = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan
    half = two_sided(values.size - 1, confidence) * error
    ends = (mean - half, mean + half) if math.isfinite(half) else (-math.inf, math.inf)
    return Estimate(mean, *ends, unit, f"{convention}, mean over seeds")


def from_log(value: float, low: float, high: float, unit: str, convention: str) -> Estimate:
    """The estimate of a positive quantity from that of its natural logarithm.

    Args:
        value: logarithm of the point estimate.
        low: logarithm of the lower end; -inf stays -inf, so that an open side is not printed as 0.
        high: logarithm of the upper end.
        unit: unit of the exponential.
        convention: convention of the exponential.

    Returns:
        The estimate in natural units.
    """
    ends = [math.exp(end) if math.isfinite(end) else end for end in (value, low, high)]
    return Estimate(ends[0], ends[1], ends[2], unit, convention)


def as_json(value: Any) -> Any:
    """The JSON form of a result: dataclasses become dictionaries, tuples lists, non-finite numbers None.

    Args:
        value: a dataclass, mapping, sequence, numpy value or plain value.

    Returns:
        A value made of dict, list, str, int, float, bool and None only.
    """
    if isinstance(value, Estimate):
        return value.as_json()
    if dataclasses.is_dataclass(value) and hasattr(value, "flat"):
        return as_json(value.flat())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        return as_json(value.item())
    if isinstance(value, float):
        return _finite(value)
    return value


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
