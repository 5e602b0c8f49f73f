"""The catapult: gradient descent on a two-layer linear network above the linearized stability limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput


def catapult_map(
    output: float, curvature: float, rate: float, width: int, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the exact output and curvature of f = u·v/√n under the loss ½f² at every step.

    f' = f(1 − ελ + ε²f²/n), λ' = λ + (εf²/n)(ελ − 4), with λ = (‖u‖² + ‖v‖²)/n. For ε < 2/λ the output decreases. For ε
    between 2/λ and 4/λ the output first grows, until the curvature falls below 2/ε. For ε > 4/λ the output diverges.

    Args:
        output: Initial output f_0.
        curvature: Initial curvature λ_0.
        rate: Learning rate ε.
        width: Width n, in units.
        steps: Number of steps T.

    Returns:
        Outputs f and curvatures λ, shape [T + 1] each.

    Raises:
        BadInput: The curvature, rate or width is not positive.

    Source:
        Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari 2020, section 2.
    """
    for name, value in (("curvature", curvature), ("rate", rate), ("width", width)):
        if not value > 0:
            raise BadInput(name, "a number above 0", value)
    outputs, curvatures = [float(output)], [float(curvature)]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            f, lam = np.float64(outputs[-1]), np.float64(curvatures[-1])
            outputs.append(float(f * (1 - rate * lam + rate**2 * f**2 / width)))
            curvatures.append(float(lam + rate * f**2 / width * (rate * lam - 4)))
    return np.array(outputs), np.array(curvatures)
