"""What an instrument returns: a number with its error, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95

# The fewest samples from which a t interval of a mean is asked to hold; the first look at the error comes then.
FEWEST_SAMPLES = 12


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and interval.

    Arguments:
        value: the estimate. standard_error: 0 where the number is exact. low, high: ends of the interval at 95 %;
            infinite where the data do not bound it. unit: of all of them.
    """

    value: float
    standard_error: float
    low: float
    high: float
    unit: str

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high

    @property
    def is_exact(self) -> bool:
        """Whether there is no sampling error."""
        return self.standard_error == 0

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.value:.6g} {self.unit} (exact)"
        return f"{self.value:.4g} ± {self.standard_error:.2g} [{self.low:.4g}, {self.high:.4g}] {self.unit}"


def exact(value: float, unit: str) -> Estimate:
    """A number without sampling error."""
    return Estimate(value, 0.0, value, value, unit)


def with_t_interval(value: float, error: float, freedom: float, unit: str) -> Estimate:
    """A number with a t interval."""
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * error if freedom > 0 else math.inf
    return Estimate(value, error, value - half, value + half, unit)


def most_of_the_error(samples: int) -> float:
    """By how much the error of a mean of so many normal samples may be underestimated: its upper end at 95 %.

    A rule that stops where the estimated error is small stops where it is underestimated, and the interval then covers
    too rarely: 0.90 on the trace of a matrix with a power law of eigenvalues. Asking for this upper end costs a third
    more samples and brings it back above 0.92 (tests/measure/test_dense.py).
    """
    return math.sqrt((samples - 1) / float(stats.chi2.ppf(0.05, samples - 1)))


def mean_of(samples: Sequence[float] | NDArray[np.float64], unit: str) -> Estimate:
    """The mean of independent samples with its t interval."""
    own = np.asarray(samples, dtype=np.float64)
    error = float(own.std(ddof=1) / math.sqrt(len(own))) if len(own) > 1 else math.inf
    return with_t_interval(float(own.mean()), error, len(own) - 1, unit)
