"""The condition to stop sampling: the error of the mean must be small, and it must be known precisely enough."""

from __future__ import annotations

import math

from scipy import stats

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
