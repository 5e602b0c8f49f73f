"""SGD near a minimum as an Ornstein-Uhlenbeck process, with corrections for finite steps and momentum."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisescale.errors import BadInput
from noisescale.theory.noisy_quadratic import stationary_variance


def transition(
    start: float, curvature: float, rate: float, noise_variance: float, steps: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and variance of θ_t − c under dθ = −h(θ − c)dt + √ε s dW at the time t = ε·steps.

    The mean is e^{−ht}(θ_0 − c) and the variance εs²(1 − e^{−2ht})/(2h).

    Args:
        start: Initial distance θ_0 − c.
        curvature: Curvature h.
        rate: Learning rate ε.
        noise_variance: Variance s² of a batch gradient.
        steps: Numbers of steps, shape [...].

    Returns:
        Means and variances, shape [...] each.

    Source:
        Uhlenbeck, Ornstein 1930; for SGD: Mandt, Hoffman, Blei 2017, section 3.
    """
    time = rate * np.asarray(steps, dtype=np.float64)
    decay = np.exp(-curvature * time)
    return start * decay, rate * noise_variance * (1 - decay**2) / (2 * curvature)


def excess_loss(
    rate: float, curvatures: ArrayLike, noise_variances: ArrayLike, momentum: float = 0.0, *, finite_steps: bool = True
) -> float:
    """Return the excess loss of the stationary state, E L − L* = ½ Σ h_k Var θ_k.

    For finite steps without momentum, the excess loss is (ε/4) Σ s_k²/(1 − εh_k/2). In the limit of small steps, it is
    ε tr Σ/(4(1 − m)). The noise covariance Σ may have other eigenvectors than the Hessian. Only the diagonal entries of
    Σ in the eigenbasis of the Hessian matter, because the variance along each eigenvector obeys a separate equation.

    Args:
        rate: Learning rate ε.
        curvatures: Curvatures h_k, shape [K].
        noise_variances: Variances s_k² = u_kᵀΣu_k of a batch gradient, along the eigenvectors u_k of the Hessian,
            shape [K].
        momentum: Momentum m.
        finite_steps: Whether to include the correction for finite steps.

    Returns:
        The excess loss.

    Raises:
        BadInput: The shapes differ, or SGD is unstable along an eigenvector.

    Source:
        Jastrzębski et al. 2017, section 3, in the limit of small steps: (η/4S) tr C with C = S·s². The correction
        follows from `stationary_variance`.
    """
    h, s2 = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (curvatures, noise_variances))
    if h.shape != s2.shape:
        raise BadInput("noise_variances", f"as many values as curvatures ({h.size})", s2.size)
    if not finite_steps:
        return float(rate * s2.sum() / (4 * (1 - momentum)))
    variances = [stationary_variance(rate, *pair, momentum) for pair in zip(h, s2, strict=True)]
    return float(sum(0.5 * curvature * variance for curvature, variance in zip(h, variances, strict=True)))
