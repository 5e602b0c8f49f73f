"""The Gibbs distribution e^(−L/n) of the weights under isotropic noise: the odds of two minima or two regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisescale.errors import BadInput


def log_odds_of_wells(noise: float, loss_difference: float, curvatures_a: ArrayLike, curvatures_b: ArrayLike) -> float:
    """Return the log odds of two wells of the loss, each approximated by a parabola around its minimum.

    log p_A/p_B = ½ log(det H_B/det H_A) − (L_A − L_B)/n

    Args:
        noise: Noise n = σ²η/(2S), where a batch gradient has the variance σ²/S along every axis.
        loss_difference: Difference L_A − L_B of the minimal losses.
        curvatures_a: Eigenvalues of the Hessian of well A, shape [K].
        curvatures_b: Eigenvalues of the Hessian of well B, shape [K].

    Returns:
        The log odds log p_A/p_B.

    Raises:
        BadInput: The noise or a curvature is not positive.

    Source:
        Jastrzębski et al. 2017 (version 1), theorem 2, by Laplace's method.
    """
    a, b = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (curvatures_a, curvatures_b))
    if not noise > 0:
        raise BadInput("noise", "a number above 0", noise)
    for name, values in (("curvatures_a", a), ("curvatures_b", b)):
        if not (values > 0).all():
            raise BadInput(name, "numbers above 0", values.tolist())
    return float(0.5 * (np.log(b).sum() - np.log(a).sum()) - loss_difference / noise)


def log_odds_of_regions(noise: float, losses: ArrayLike, in_a: ArrayLike) -> float:
    """Return the log odds of two regions, from the Gibbs distribution summed over an evenly spaced grid.

    Args:
        noise: Noise n, as in `log_odds_of_wells`.
        losses: Loss L at the grid points, shape [M].
        in_a: Mask of the grid points in region A, shape [M]. All other points are in region B.

    Returns:
        The log odds log p_A/p_B.

    Raises:
        BadInput: The noise is not positive, or a region has no grid point.
    """
    loss, mask = np.asarray(losses, dtype=np.float64), np.asarray(in_a, dtype=bool)
    if not noise > 0:
        raise BadInput("noise", "a number above 0", noise)
    if not 0 < mask.sum() < mask.size:
        raise BadInput("in_a", "grid points in A and in B", f"{int(mask.sum())} of {mask.size} in A")
    weight: NDArray[np.float64] = np.exp(-(loss - loss.min()) / noise)
    return float(np.log(weight[mask].sum() / weight[~mask].sum()))
