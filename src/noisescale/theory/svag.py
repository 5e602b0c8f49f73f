"""SVAG: SGD with the rate divided by l at equal noise. Its limit is the stochastic differential equation."""

from __future__ import annotations

import math

from noisescale.errors import BadInput


def svag_weights(factor: int) -> tuple[float, float]:
    """Return weights of two batch gradients whose sum has the mean of a batch gradient and l times its covariance.

    The weights are (1 ± √(2l − 1))/2. With the rate ε/l and l times as many steps, the drift and the noise per unit of
    time equal those of SGD.

    Args:
        factor: Factor l, a whole number from 1. At 1 the second weight is 0, and SVAG is SGD.

    Returns:
        The two weights.

    Raises:
        BadInput: The factor is not a whole number from 1.

    Source:
        Li, Malladi, Arora 2021, section 4.
    """
    if not (factor == int(factor) and factor >= 1):
        raise BadInput("factor", "a whole number from 1", factor)
    root = math.sqrt(2 * factor - 1)
    return (1 + root) / 2, (1 - root) / 2
