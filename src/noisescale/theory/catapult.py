"""The catapult: gradient descent on a two-layer linear network at a rate above the linearised edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput


def catapult_map(
    output: float, curvature: float, rate: float, width: int, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Output and curvature of f = u·v/√n under the loss ½f², step by step, exactly.

    f' = f(1 − ελ + ε²f²/n), λ' = λ + (εf²/n)(ελ − 4), with λ = (‖u‖² + ‖v‖²)/n. Below ε = 2/λ the output falls; between
    2/λ and 4/λ it first grows, until the curvature has fallen below 2/ε; above it diverges.

    Args:
        output: f_0.
        curvature: λ_0.
        rate: ε.
        width: n.
        steps: T.

    Returns:
        f and λ, [T + 1] each.

    Raises:
        BadInput: A curvature, rate or width that is not positive.

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
