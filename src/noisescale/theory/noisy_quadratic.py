"""The noisy quadratic model: SGD on L(θ) = ½h(θ − c̄)², each example with a minimum c_i of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BatchNoise:
    """Second moments of the noise ξ of a batch's gradient h(θ − c̄) + ξ.

    Args:
        variance: Var ξ_t.
        between: Cov(ξ_s, ξ_t) of two steps of one epoch.
        epoch: Steps of an epoch, after which the noise begins anew; 1 where all steps are independent.
    """

    variance: float
    between: float = 0.0
    epoch: int = 1


def gradient_noise(curvature: float, spread: float, batch_size: int, examples: int, sampling: str) -> BatchNoise:
    """The noise of a batch of B of the N examples.

    With S² = Σ(c_i − c̄)²/N: Var ξ = h²S²/B with replacement, h²S²(N − B)/(B(N − 1)) without; two batches of one epoch
    have Cov = −h²S²/(N − 1).

    Args:
        curvature: h.
        spread: S², the population variance of the examples' minima.
        batch_size: B.
        examples: N.
        sampling: "with_replacement", "subset" or "epoch_shuffle"; the latter drops the partial batch at an epoch's end.

    Raises:
        BadInput: An unknown sampling.

    Source:
        Finite-population sampling, e.g. Cochran 1977, section 2.6; the model: Schaul, Zhang, LeCun 2013; Zhang et al.
        2019.
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
    """Var θ in the stationary state of SGD with heavy-ball momentum, whose noise is independent from step to step.

    Var θ = ε s²(1 + m) / (h(1 − m)(2(1 + m) − εh)); without momentum ε s²/(h(2 − εh)).

    Args:
        rate: ε.
        curvature: h.
        noise_variance: S² = Var ξ.
        momentum: m, in [0, 1).

    Raises:
        BadInput: A rate at which SGD is not stable, εh ≥ 2(1 + m).

    Source:
        Derived from the moments below; without momentum Mandt, Hoffman, Blei 2017, section 3, is its limit εh → 0.
    """
    if not 0 < rate * curvature < 2 * (1 + momentum):
        raise BadInput("rate", f"above 0 and below {2 * (1 + momentum) / curvature:g} at this curvature", rate)
    room = 2 * (1 + momentum) - rate * curvature
    return rate * noise_variance * (1 + momentum) / (curvature * (1 - momentum) * room)


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
    """E(θ_t − c̄)² of every step, from a start without velocity.

    With x = (θ − c̄, v) one step is x' = Ax + bξ, and P = E xxᵀ and M = E xξ_s, s a later step of the same epoch, obey
    P' = APAᵀ + AMbᵀ + bMᵀAᵀ + Var ξ bbᵀ and M' = AM + Cov b, with M = 0 at the start of every epoch.

    Args:
        rate: ε.
        curvature: h.
        noise: As `gradient_noise` gives it.
        steps: T.
        momentum: m, v ← mv + g as in `torch.optim.SGD`.
        nesterov: Θ moves by g + mv.
        start: Θ_0 − c̄.

    Returns:
        [T + 1], the first of them start².
    """
    # With v' = mv + g, heavy ball moves by v' = g + mv, Nesterov's form by g + mv' = (1 + m)g + m²v.
    of_gradient, of_velocity = (1 + momentum, momentum**2) if nesterov else (1.0, momentum)
    step = np.array([[1 - rate * of_gradient * curvature, -rate * of_velocity], [curvature, momentum]])
    noise_in = np.array([-rate * of_gradient, 1.0])
    second = np.zeros((2, 2))
    second[0, 0] = start**2
    found = [second[0, 0]]
    with_later = np.zeros(2)
    for t in range(steps):
        if t % noise.epoch == 0:
            with_later = np.zeros(2)
        cross = np.outer(step @ with_later, noise_in)
        second = step @ second @ step.T + cross + cross.T + noise.variance * np.outer(noise_in, noise_in)
        with_later = step @ with_later + noise.between * noise_in
        found.append(second[0, 0])
    return np.array(found)
