"""SVAG: SGD with its rate divided by l and its noise kept, whose limit is the stochastic differential equation."""

from __future__ import annotations

import math

from noisescale.errors import BadInput


def svag_weights(factor: int) -> tuple[float, float]:
    """Weights of two independent batch gradients whose sum has the mean of one and l times its covariance.

    (1 ± √(2l − 1))/2; with the rate ε/l and l times as many steps the drift and the noise per time are those of SGD.

    Args:
        factor: L, a whole number of at least 1; at 1 the second weight is 0, and SVAG is SGD.

    Raises:
        BadInput: A factor below 1.

    Source:
        Li, Malladi, Arora 2021, section 4.
    """
    if not (factor == int(factor) and factor >= 1):
        raise BadInput("factor", "a whole number of at least 1", factor)
    root = math.sqrt(2 * factor - 1)
    return (1 + root) / 2, (1 - root) / 2
