"""An estimated number with its interval, and the JSON form of every result."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from pydantic_core import to_json
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95
_NORMAL_QUANTILE = float(ndtri(0.5 + CONFIDENCE / 2))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, unit and convention.

    Args:
        value: The point estimate; NaN if there is none.
        low: Lower end; −∞ if the data do not bound it, NaN if no interval can be given.
        high: Upper end; ∞ if the data do not bound it, NaN if no interval can be given.
        unit: For example "examples", "steps", "fraction", "nats"; "1" for a pure number.
        convention: The definition of the number, in words or as a formula.
        standard_error: Standard error; 0 if the number is exact, NaN if the interval does not follow from a standard
            error.
    """

    value: float
    low: float
    high: float
    unit: str
    convention: str = ""
    standard_error: float = Field(default=math.nan, exclude=True)

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the interval."""
        return self.low, self.high

    @property
    def bounded(self) -> bool:
        """Whether both ends of the interval are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_exact(self) -> bool:
        """Whether the number has no sampling error."""
        return self.standard_error == 0

    @property
    def log_error(self) -> float:
        """Standard error of the logarithm: the width of the log interval divided by twice the normal quantile.

        NaN if the interval of the logarithm is not bounded.
        """
        if not (self.bounded and self.low > 0):
            return math.nan
        return math.log(self.high / self.low) / (2 * _NORMAL_QUANTILE)

    def covers(self, truth: float) -> bool:
        """Return whether the interval contains `truth`. An end may be infinite."""
        return self.low <= truth <= self.high

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.value:.6g} {self.unit} (exact)"
        value, low, high = (f"{x:.4g}" if math.isfinite(x) else "?" for x in (self.value, self.low, self.high))
        error = f" ± {self.standard_error:.2g}" if math.isfinite(self.standard_error) else ""
        return f"{value}{error} [{low}, {high}]" + (f" {self.unit}" if error else "")


def exact(value: float, unit: str) -> Estimate:
    """Return a number without sampling error."""
    return Estimate(value, value, value, unit, standard_error=0.0)


def no_estimate(unit: str, convention: str) -> Estimate:
    """Return an estimate without a value or an interval.

    Args:
        unit: Unit of the quantity.
        convention: Definition of the quantity, or the reason why it has no value.
    """
    return Estimate(math.nan, math.nan, math.nan, unit, convention)


def student_quantile(degrees: float, probability: float) -> float:
    """Return a quantile of Student's t distribution.

    Args:
        degrees: Degrees of freedom.
        probability: Cumulative probability, in (0, 1).

    Returns:
        t with P(T <= t) = probability; infinity if `degrees` is not positive.
    """
    return float(stdtrit(degrees, probability)) if degrees > 0 else math.inf


def two_sided(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Return the half-width, in standard errors, of a two-sided t interval with this confidence."""
    return student_quantile(degrees, 0.5 + confidence / 2)


def with_t_interval(value: float, error: float, degrees: float, unit: str, convention: str = "") -> Estimate:
    """Return a number with a t interval.

    Args:
        value: The point estimate.
        error: Standard error of the point estimate.
        degrees: Degrees of freedom of the standard error. If they are not positive, the interval is unbounded.
        unit: Unit of the number.
        convention: Definition of the number.

    Returns:
        The estimate.
    """
    half_width = two_sided(degrees) * error if degrees > 0 else math.inf
    return Estimate(value, value - half_width, value + half_width, unit, convention, error)


def mean_of(samples: Sequence[float] | NDArray[np.float64], unit: str) -> Estimate:
    """Return the mean of independent samples with its t interval, unbounded for a single sample."""
    values = np.asarray(samples, dtype=np.float64)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
    return with_t_interval(float(values.mean()), error, len(values) - 1, unit)


def from_log(value: float, low: float, high: float, unit: str, convention: str) -> Estimate:
    """Return the estimate of a positive quantity, given the estimate of its natural logarithm.

    Args:
        value: Logarithm of the point estimate.
        low: Logarithm of the lower end. −∞ stays −∞, so that an unbounded end is not printed as 0.
        high: Logarithm of the upper end.
        unit: Unit of the quantity.
        convention: Definition of the quantity.

    Returns:
        The estimate in natural units.
    """
    ends = [math.exp(end) if math.isfinite(end) else end for end in (value, low, high)]
    return Estimate(ends[0], ends[1], ends[2], unit, convention)


def as_json(result: Any) -> Any:
    """Return the JSON form of a result: dataclasses become dictionaries, tuples lists, NaN and infinity None.

    Args:
        result: A dataclass, mapping, sequence, numpy value or plain value.

    Returns:
        A value made of dict, list, str, int, float, bool and None only.
    """
    # Convert to text and back, because pydantic replaces NaN and infinity only when it writes text.
    return json.loads(to_json(result, inf_nan_mode="null", fallback=lambda value: value.tolist()))
