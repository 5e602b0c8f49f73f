"""SVAG: SGD with the rate ε/l and unchanged noise. For large l, it follows a stochastic differential equation."""

from __future__ import annotations

import math

from noisescale.errors import BadInput


def svag_weights(factor: int) -> tuple[float, float]:
    """Return the weights with which SVAG adds two batch gradients.

    The weighted sum has the mean of a batch gradient and l times its covariance. The weights are (1 ± √(2l − 1))/2.
    With the rate ε/l and l times as many steps, the drift and the noise per unit of time equal those of SGD.

    Args:
        factor: Factor l, a whole number of at least 1. For l = 1, the second weight is 0, and SVAG is SGD.

    Returns:
        The two weights.

    Raises:
        BadInput: The factor is not a whole number of at least 1.

    Source:
        Li, Malladi, Arora 2021, section 4.
    """
    if not (factor == int(factor) and factor >= 1):
        raise BadInput("factor", "a whole number of at least 1", factor)
    root = math.sqrt(2 * factor - 1)
    return (1 + root) / 2, (1 - root) / 2
