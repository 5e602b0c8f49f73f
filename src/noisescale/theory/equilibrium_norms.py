"""Scale-invariant weights under weight decay: the recursion and the equilibrium of their norms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisescale.errors import BadInput


@dataclass(frozen=True, slots=True)
class Equilibrium:
    """The equilibrium of a scale-invariant weight.

    Args:
        norm: Norm ‖w‖ of the weight.
        effective_learning_rate: Effective learning rate η/‖w‖².
        rotation: Root mean square of the angle by which a step rotates the weight, in radians.
        relaxation: Rate at which ‖w‖⁴ approaches equilibrium, per step.
    """

    norm: float
    effective_learning_rate: float
    rotation: float
    relaxation: float


def norm_recursion(
    norm_squared: ArrayLike, unit_gradients_squared: ArrayLike, rates: ArrayLike, decays: ArrayLike
) -> NDArray[np.float64]:
    """Compute the exact squared norms R_t = ‖w_t‖² of scale-invariant weights under SGD with decay.

    R_{t+1} = (1 − η_tλ_t)² R_t + η_t²‖ĝ_t‖²/R_t without momentum, where ĝ is the gradient at w/‖w‖.

    Args:
        norm_squared: Initial squared norm R_0, a number or an array of shape [...].
        unit_gradients_squared: Squared gradient norms ‖ĝ_t‖², shape [T] or [T, ...].
        rates: Learning rates η_t: a number, or shape [T] or [T, ...]. Axes after the first broadcast.
        decays: Weight decays λ_t: a number, or shape [T] or [T, ...]. Axes after the first broadcast.

    Returns:
        Squared norms, shape [T + 1, ...].

    Source:
        Derived, as in Li, Lyu, Arora 2020, section 3: w_{t+1} = (1 − ηλ)w_t − ηg_t with ⟨g, w⟩ = 0 and g = ĝ/‖w‖.
    """
    start = np.asarray(norm_squared, dtype=np.float64)
    squares, rate, decay = (
        np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (unit_gradients_squared, rates, decays)
    )
    rate, decay = (np.broadcast_to(values, (len(squares), *values.shape[1:])) for values in (rate, decay))
    shape = np.broadcast_shapes(start.shape, *(values.shape[1:] for values in (squares, rate, decay)))
    norms = [np.broadcast_to(start, shape)]
    for eta, lam, square in zip(rate, decay, squares, strict=True):
        norms.append((1 - eta * lam) ** 2 * norms[-1] + eta**2 * square / norms[-1])
    return np.stack(norms)


def equilibrium(rate: float, decay: float, unit_gradient_squared: float, momentum: float = 0.0) -> Equilibrium:
    """Return the equilibrium of a scale-invariant weight under SGD with weight decay.

    ‖w‖⁴ = ηS/(λ(1 − m)(2 − λη/(1 + m))), and the rotation is √(2ηλ/(1 + m)).

    Args:
        rate: Learning rate η.
        decay: Coupled weight decay λ.
        unit_gradient_squared: Second moment S = E‖ĝ‖² of a batch gradient at ‖w‖ = 1. It includes the mean gradient.
        momentum: Momentum m of heavy-ball SGD.

    Returns:
        The norm, effective learning rate, rotation and relaxation rate.

    Raises:
        BadInput: The rate, decay or second moment is not positive, ηλ ≥ 1, or the momentum is not in [0, 1).

    Source:
        Without momentum: derived from the recursion, as in Li, Lyu, Arora 2020, section 3 (rotation √(2ηλ)). With
        momentum: Wan, Zhu, Zhang, Sun 2021. The relaxation 4ηλ follows from dγ/dt = −4ηλγ + 2S for γ = ‖w‖⁴/η²; with
        momentum, ηλ/(1 − m) replaces ηλ.
    """
    for name, value in (("rate", rate), ("decay", decay), ("unit_gradient_squared", unit_gradient_squared)):
        if not value > 0:
            raise BadInput(name, "a number above 0", value)
    if not rate * decay < 1:
        raise BadInput("rate", "below 1/decay", rate)
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    fourth = rate * unit_gradient_squared / (decay * (1 - momentum) * (2 - decay * rate / (1 + momentum)))
    norm_squared = math.sqrt(fourth)
    intrinsic = rate * decay
    return Equilibrium(
        math.sqrt(norm_squared), rate / norm_squared, math.sqrt(2 * intrinsic / (1 + momentum)),
        4 * intrinsic / (1 - momentum),
    )  # fmt: skip


def intrinsic_learning_rate(rate: float, decay: float, rate_growth: float = 0.0, momentum: float = 0.0) -> float:
    """Return the intrinsic learning rate λ_e = ηλ/(1 − m) + ½ d ln η/dt of a scale-invariant network.

    The training of such a network depends on λ_e, and not on the rate η alone.

    Args:
        rate: Learning rate η.
        decay: Weight decay λ.
        rate_growth: Growth d ln η/dt of the logarithm of the rate, per step.
        momentum: Momentum m.

    Returns:
        The intrinsic learning rate λ_e, per step.

    Raises:
        BadInput: The momentum is not in [0, 1).

    Source:
        Li, Lyu, Arora 2020, section 3. We derived the term for a changing rate. Without decay, it gives the exponential
        schedule of the rate that is equivalent to weight decay (Li, Arora 2020).
    """
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    return rate * decay / (1 - momentum) + 0.5 * rate_growth
