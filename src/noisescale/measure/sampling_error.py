"""The error of sampled means: when it is small enough to stop, and the interval of a mean of squared norms."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats
from torch import Tensor

from noisescale.estimate import CONFIDENCE, Estimate, exact

# Smallest number of samples for which the t interval of a mean has the right coverage.
FEWEST_SAMPLES = 12


def error_safety_factor(samples: int) -> float:
    """Return the ratio of the upper 95 % limit of a standard error to its estimate, for normal samples.

    A rule that stops when the estimated error is small favors estimates that are too small by chance. The coverage of
    its intervals is too low: 0.90 for the trace of a matrix whose eigenvalues follow a power law. A rule that stops
    when the upper limit is small takes a third more samples, and its coverage is above 0.92
    (tests/measure/test_dense.py).

    Args:
        samples: Number of samples.
    """
    return math.sqrt((samples - 1) / float(stats.chi2.ppf(0.05, samples - 1)))


# Number of images that `SquaredNorms` keeps. With more samples, their own variance is precise enough.
_KEPT_IMAGES = 32


class SquaredNorms:
    """The mean of q = ‖Hz‖² over random signs z, which is ‖H‖_F², with an interval for its root.

    The samples are skewed: if one eigenvalue dominates, q has the distribution of λ²χ² with one degree of freedom. A
    sample that has no large q by chance has a small mean and a small variance, so a t interval covers too rarely. The
    variance of q is 2(‖H²‖_F² − Σ_p (H²)_pp²). Pairs of images estimate it without bias, and more precisely than the
    sample variance, from ‖H²‖_F² = E⟨Hz, Hz'⟩² and (H²)_pp = E(Hz)_p². The larger of the two variances is used.

    A sum of n independent q is nearly proportional to χ² with ν = 2 mean²/variance degrees of freedom, which gives the
    interval.

    Source:
        Satterthwaite 1946, for the degrees of freedom; Hutchinson 1990, for the variance. Coverage is measured in
        tests/measure/test_norm_coverage.py.
    """

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._images: list[Tensor] = []
        self._inner_squares = 0.0
        self._diagonal_sum: Tensor | None = None
        self._diagonal_squares = 0.0

    def add(self, image: Tensor) -> None:
        """Add the image Hz of one vector of signs, shape [P], in float64."""
        self._samples.append(float(image @ image))
        if len(self._images) == _KEPT_IMAGES:
            return
        squares = image.square()
        self._inner_squares += sum(float(image @ other) ** 2 for other in self._images)
        self._diagonal_sum = squares if self._diagonal_sum is None else self._diagonal_sum + squares
        self._diagonal_squares += float(squares @ squares)
        self._images.append(image)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def relative_error(self) -> float:
        """Standard error of the root of the mean, relative to the root, infinite if it is not known."""
        mean, variance = float(np.mean(self._samples)), self._variance()
        return math.sqrt(variance / len(self)) / (2 * mean) if mean > 0 else math.inf if variance else 0.0

    @property
    def sampled_relative_error(self) -> float:
        """The same error from the variance of the samples alone."""
        mean = float(np.mean(self._samples))
        return float(np.std(self._samples, ddof=1)) / math.sqrt(len(self)) / (2 * mean) if mean > 0 else 0.0

    def root(self, unit: str) -> Estimate:
        """Return the root of the mean with its interval.

        Args:
            unit: Unit of the root.
        """
        value, error = math.sqrt(float(np.mean(self._samples))), self.relative_error
        if not error:
            return exact(value, unit)
        if not math.isfinite(error):
            return Estimate(value, 0.0, math.inf, unit, standard_error=math.inf)
        # The square has twice the relative error of its root.
        freedom = 1 / (2 * error**2)
        tail = (1 - CONFIDENCE) / 2
        low, high = (value * math.sqrt(freedom / float(stats.chi2.ppf(p, freedom))) for p in (1 - tail, tail))
        return Estimate(value, low, high, unit, standard_error=error * value)

    def _variance(self) -> float:
        """Return the larger of the two estimates of the variance of q."""
        if len(self) < 2 or self._diagonal_sum is None:
            return math.inf
        count = len(self._images)
        pairs = count * (count - 1)
        diagonal = float(self._diagonal_sum @ self._diagonal_sum) - self._diagonal_squares
        return max(float(np.var(self._samples, ddof=1)), 2 * (2 * self._inner_squares - diagonal) / pairs)
