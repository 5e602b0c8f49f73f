"""The probability that a run fails, as a function of its place on a ladder.

p(x) = p₀ + (1 - p₀)·Φ((x - e)/s): a share p₀ of the runs fails anywhere, and all fail beyond an edge e of width s.
A failed run counts as the constant predictor. So the mean metric of a place is (1 - p)·f + p·c, where f is the curve of
the runs that do not fail and c the metric of the constant predictor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

# No failures anywhere is as likely as all other shares together.
_BASES = np.concatenate([[0.0], np.geomspace(0.005, 0.95, 20)])
_BASE_WEIGHTS = np.array([0.5, *[0.5 / 20] * 20])
_WIDTHS = np.array([0.05, 0.15, 0.4])
_EDGE_STEP = 0.08
# Beyond the last cell the edge may lie this far away, in nats; further away it does not matter.
_REACH = 1.5


@dataclass(frozen=True)
class FailureRates:
    """The posterior of the failure rates of a ladder.

    Args:
        base: Share p₀ of each node, shape [nodes].
        edge: Edge e of each node, shape [nodes].
        width: Width s of each node, shape [nodes].
        weights: Probability of each node, shape [nodes].
    """

    base: Array
    edge: Array
    width: Array
    weights: Array

    def draws(self, x: Array, count: int, generator: np.random.Generator) -> Array:
        """Draw curves of the failure rate at the positions x, shape [count, points]."""
        rows = generator.choice(self.weights.size, count, p=self.weights)
        base, edge, width = (values[rows, None] for values in (self.base, self.edge, self.width))
        return np.asarray(base + (1 - base) * ndtr((x - edge) / width))


def failure_rates(x: Array, failures: Array, runs: Array) -> FailureRates:
    """Estimate the failure rates of a ladder.

    Args:
        x: Increasing positions, shape [cells].
        failures: Number of failed runs of each cell, shape [cells].
        runs: Number of runs of each cell, shape [cells].

    Returns:
        The posterior.
    """
    edges = np.arange(x[0] - _EDGE_STEP, x[-1] + _REACH, _EDGE_STEP)
    base, edge, width = (grid.ravel() for grid in np.meshgrid(_BASES, edges, _WIDTHS, indexing="ij"))
    p = base[:, None] + (1 - base[:, None]) * ndtr((x - edge[:, None]) / width[:, None])
    p = np.clip(p, 1e-6, 1 - 1e-6)
    log_weights = (failures * np.log(p) + (runs - failures) * np.log1p(-p)).sum(axis=1)
    log_weights += np.log(_BASE_WEIGHTS)[np.searchsorted(_BASES, base)]
    weights = np.exp(log_weights - log_weights.max())
    return FailureRates(base, edge, width, weights / weights.sum())
