"""The Gibbs law e^(−L/n): how often each of two wells is visited where the noise is isotropic."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisescale.errors import BadInput


def log_odds_of_wells(noise: float, loss_difference: float, curvatures_a: ArrayLike, curvatures_b: ArrayLike) -> float:
    """log p_A/p_B = ½ log(det H_B/det H_A) − (L_A − L_B)/n, each well as the parabola at its bottom.

    Args:
        noise: N = σ²η/(2S), of a batch's gradient with the variance σ²/S along every axis.
        loss_difference: L_A − L_B.
        curvatures_a: Eigenvalues of the Hessians, [K].
        curvatures_b: Eigenvalues of the Hessians, [K].

    Raises:
        BadInput: A noise or curvature that is not positive.

    Source:
        Jastrzębski et al. 2017 (version 1), theorem 2, by Laplace's method.
    """
    a, b = (np.atleast_1d(np.asarray(own, dtype=np.float64)) for own in (curvatures_a, curvatures_b))
    if not noise > 0:
        raise BadInput("noise", "a number above 0", noise)
    for name, values in (("curvatures_a", a), ("curvatures_b", b)):
        if not (values > 0).all():
            raise BadInput(name, "numbers above 0", values.tolist())
    return float(0.5 * (np.log(b).sum() - np.log(a).sum()) - loss_difference / noise)


def log_odds_of_regions(noise: float, losses: ArrayLike, in_a: ArrayLike) -> float:
    """log p_A/p_B of two parts of a line or space, the Gibbs law summed over an even grid.

    Args:
        noise: n.
        losses: L at the places of the grid, [M].
        in_a: Whether a place belongs to A, [M]; else to B.

    Raises:
        BadInput: A noise that is not positive, or a part without a place.
    """
    loss, of_a = np.asarray(losses, dtype=np.float64), np.asarray(in_a, dtype=bool)
    if not noise > 0:
        raise BadInput("noise", "a number above 0", noise)
    if not 0 < of_a.sum() < of_a.size:
        raise BadInput("in_a", "places in A and places in B", f"{int(of_a.sum())} of {of_a.size} in A")
    weight: NDArray[np.float64] = np.exp(-(loss - loss.min()) / noise)
    return float(np.log(weight[of_a].sum() / weight[~of_a].sum()))
