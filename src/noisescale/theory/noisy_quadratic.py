"""The noisy quadratic model: SGD on L(θ) = ½h(θ − c̄)², where each example i has its minimum at c_i."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BatchNoise:
    """The second moments of the noise ξ in a batch gradient h(θ − c̄) + ξ.

    Args:
        variance: Variance Var ξ_t.
        between: Covariance Cov(ξ_s, ξ_t) of the noise of two steps in the same epoch.
        epoch: Number of steps per epoch. Steps of different epochs are independent. 1 if all steps are independent.
    """

    variance: float
    between: float = 0.0
    epoch: int = 1


def gradient_noise(curvature: float, spread: float, batch_size: int, examples: int, sampling: str) -> BatchNoise:
    """Return the noise of a batch of B out of N examples.

    With S² = Σ(c_i − c̄)²/N, the variance is h²S²/B for sampling with replacement, and h²S²(N − B)/(B(N − 1)) for
    sampling without replacement. The noises of two batches of the same epoch have the covariance −h²S²/(N − 1).

    Args:
        curvature: Curvature h.
        spread: Population variance S² of the minima c_i.
        batch_size: Batch size B, in examples.
        examples: Number of examples N.
        sampling: "with_replacement", "subset" or "epoch_shuffle". "epoch_shuffle" drops the partial batch of an epoch.

    Returns:
        The moments of the noise.

    Raises:
        BadInput: The sampling is unknown.

    Source:
        Cochran 1977, section 2.6, for sampling from a finite population. Schaul, Zhang, LeCun 2013 and Zhang et al.
        2019, for the model.
    """
    scale = curvature**2 * spread
    if sampling == "with_replacement":
        return BatchNoise(scale / batch_size)
    if sampling not in ("subset", "epoch_shuffle"):
        raise BadInput("sampling", "'with_replacement', 'subset' or 'epoch_shuffle'", repr(sampling))
    variance = scale * (examples - batch_size) / (batch_size * (examples - 1))
    if sampling == "subset":
        return BatchNoise(variance)
    return BatchNoise(variance, -scale / (examples - 1), examples // batch_size)


def stationary_variance(rate: float, curvature: float, noise_variance: float, momentum: float = 0.0) -> float:
    """Return the stationary variance of θ under SGD with heavy-ball momentum and independent noise at every step.

    Var θ = ε s²(1 + m) / (h(1 − m)(2(1 + m) − εh)). Without momentum, Var θ = ε s²/(h(2 − εh)).

    Args:
        rate: Learning rate ε.
        curvature: Curvature h.
        noise_variance: Variance s² = Var ξ of the gradient noise.
        momentum: Momentum m, in [0, 1).

    Returns:
        The variance Var θ.

    Raises:
        BadInput: The rate is not positive, or SGD is unstable at this rate, i.e. εh ≥ 2(1 + m).

    Source:
        Derived from the recursion of `second_moments`. Without momentum, the limit εh → 0 is the result of Mandt,
        Hoffman, Blei 2017, section 3.
    """
    if not 0 < rate * curvature < 2 * (1 + momentum):
        raise BadInput("rate", f"above 0 and below {2 * (1 + momentum) / curvature:g} at this curvature", rate)
    margin = 2 * (1 + momentum) - rate * curvature
    return rate * noise_variance * (1 + momentum) / (curvature * (1 - momentum) * margin)


def second_moments(
    rate: float,
    curvature: float,
    noise: BatchNoise,
    steps: int,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    start: float = 0.0,
) -> Floats:
    """Compute the second moment E(θ_t − c̄)² at every step. The initial velocity is zero.

    With x = (θ − c̄, v), a step is x' = Ax + bξ. Let P = E xxᵀ and M = E xξ_s for a later step s of the same epoch.
    Then P' = APAᵀ + AMbᵀ + bMᵀAᵀ + Var ξ bbᵀ and M' = AM + Cov b, with M = 0 at the start of every epoch.

    Args:
        rate: Learning rate ε.
        curvature: Curvature h.
        noise: Moments of the gradient noise.
        steps: Number of steps T.
        momentum: Momentum m, with v ← mv + g as in `torch.optim.SGD`.
        nesterov: Whether θ moves by g + mv (Nesterov's form).
        start: Initial distance θ_0 − c̄.

    Returns:
        The second moments, shape [T + 1]. The first entry is start².
    """
    # With v' = mv + g, heavy-ball momentum moves θ by v' = g + mv, and Nesterov's form by g + mv' = (1 + m)g + m²v.
    gradient_factor, velocity_factor = (1 + momentum, momentum**2) if nesterov else (1.0, momentum)
    step = np.array([[1 - rate * gradient_factor * curvature, -rate * velocity_factor], [curvature, momentum]])
    noise_in = np.array([-rate * gradient_factor, 1.0])
    second_moment = np.zeros((2, 2))
    second_moment[0, 0] = start**2
    moments = [second_moment[0, 0]]
    with_later_noise = np.zeros(2)
    for t in range(steps):
        if t % noise.epoch == 0:
            with_later_noise = np.zeros(2)
        cross = np.outer(step @ with_later_noise, noise_in)
        second_moment = step @ second_moment @ step.T + cross + cross.T + noise.variance * np.outer(noise_in, noise_in)
        with_later_noise = step @ with_later_noise + noise.between * noise_in
        moments.append(second_moment[0, 0])
    return np.array(moments)
