"""SGD near a minimum as an Ornstein-Uhlenbeck process: its law, and what finite steps and momentum make of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisescale.errors import BadInput
from noisescale.theory.noisy_quadratic import stationary_variance


def transition(
    start: float, curvature: float, rate: float, noise_variance: float, steps: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of θ_t − c of dθ = −h(θ − c)dt + √ε s dW at the time t = ε·steps.

    Mean e^{−ht}(θ_0 − c), variance εs²(1 − e^{−2ht})/(2h).

    Args:
        start: Θ_0 − c.
        curvature: h.
        rate: ε.
        noise_variance: S² of a batch's gradient.
        steps: Any numbers of steps.

    Source:
        Uhlenbeck, Ornstein 1930; for SGD Mandt, Hoffman, Blei 2017, section 3.
    """
    time = rate * np.asarray(steps, dtype=np.float64)
    decay = np.exp(-curvature * time)
    return start * decay, rate * noise_variance * (1 - decay**2) / (2 * curvature)


def excess_loss(
    rate: float, curvatures: ArrayLike, noise_variances: ArrayLike, momentum: float = 0.0, *, finite_steps: bool = True
) -> float:
    """The loss above its minimum in the stationary state, E L − L* = ½ Σ h_k Var θ_k.

    With steps of finite size and no momentum (ε/4) Σ s_k²/(1 − εh_k/2); in the limit of small steps ε tr Σ/(4(1 − m)).
    The noise may have any axes: of its covariance only the diagonal in the curvature's axes enters, since the variance
    along each of them obeys an equation of its own.

    Args:
        rate: ε.
        curvatures: h_k, [K].
        noise_variances: s_k² = u_kᵀΣu_k of a batch's gradient along the curvature's eigenvectors u_k, [K].
        momentum: m.
        finite_steps: Whether the correction of finite steps is made.

    Raises:
        BadInput: A rate at which a direction is not stable.

    Source:
        Jastrzębski et al. 2017, section 3, in the limit: (η/4S) tr C with C = S·s²; the correction follows from
        `stationary_variance`.
    """
    h, s2 = (np.atleast_1d(np.asarray(own, dtype=np.float64)) for own in (curvatures, noise_variances))
    if h.shape != s2.shape:
        raise BadInput("noise_variances", f"one a curvature, {h.size}", s2.size)
    if not finite_steps:
        return float(rate * s2.sum() / (4 * (1 - momentum)))
    pairs = zip(h, s2, strict=True)
    return float(sum(0.5 * own * stationary_variance(rate, own, noise, momentum) for own, noise in pairs))
