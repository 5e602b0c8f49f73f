"""Scale-invariant weights under weight decay: the recursion of their norm, and the equilibrium it goes to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisescale.errors import BadInput


@dataclass(frozen=True, slots=True)
class Equilibrium:
    """Where the norm of a scale-invariant weight settles.

    Args:
        norm: ‖w‖.
        effective_learning_rate: Η/‖w‖².
        rotation: Root mean square angle of one step, in radians.
        relaxation: Rate per step at which ‖w‖⁴ approaches its end; its inverse is a number of steps.
    """

    norm: float
    effective_learning_rate: float
    rotation: float
    relaxation: float


def norm_recursion(
    norm_squared: ArrayLike, unit_gradients_squared: ArrayLike, rates: ArrayLike, decays: ArrayLike
) -> NDArray[np.float64]:
    """‖w_t‖² of scale-invariant weights under SGD with decay, exactly.

    R_{t+1} = (1 − η_tλ_t)² R_t + η_t²‖ĝ_t‖²/R_t, with ĝ the gradient at w/‖w‖; no momentum.

    Args:
        norm_squared: R_0, one number or [...].
        unit_gradients_squared: ‖ĝ_t‖², [T] or [T, ...].
        rates: Η_t and λ_t, one number, [T] or [T, ...]; axes after the first broadcast.
        decays: Η_t and λ_t, one number, [T] or [T, ...]; axes after the first broadcast.

    Returns:
        [T + 1, ...].

    Source:
        Li, Lyu, Arora 2020, section 3, derived: w_{t+1} = (1 − ηλ)w_t − ηg_t with ⟨g, w⟩ = 0 and g = ĝ/‖w‖.
    """
    start = np.asarray(norm_squared, dtype=np.float64)
    squares, rate, decay = (
        np.atleast_1d(np.asarray(own, dtype=np.float64)) for own in (unit_gradients_squared, rates, decays)
    )
    rate, decay = (np.broadcast_to(own, (len(squares), *own.shape[1:])) for own in (rate, decay))
    shape = np.broadcast_shapes(start.shape, *(own.shape[1:] for own in (squares, rate, decay)))
    found = [np.broadcast_to(start, shape)]
    for eta, lam, square in zip(rate, decay, squares, strict=True):
        found.append((1 - eta * lam) ** 2 * found[-1] + eta**2 * square / found[-1])
    return np.stack(found)


def equilibrium(rate: float, decay: float, unit_gradient_squared: float, momentum: float = 0.0) -> Equilibrium:
    """‖w‖⁴ = ηS/(λ(1 − m)(2 − λη/(1 + m))), the effective rate there, and the rotation √(2ηλ/(1 + m)).

    Args:
        rate: Η.
        decay: λ, coupled.
        unit_gradient_squared: S = E‖ĝ‖², the full second moment of a batch's gradient on the unit sphere.
        momentum: M of heavy-ball SGD.

    Raises:
        BadInput: A rate, decay or second moment that is not positive, or ηλ ≥ 1.

    Source:
        Without momentum derived from the recursion, as Li, Lyu, Arora 2020, section 3 (rotation √(2ηλ)); with it Wan,
        Zhu, Zhang, Sun 2021. The relaxation 4ηλ: dγ/dt = −4ηλγ + 2S for γ = ‖w‖⁴/η²; with momentum ηλ/(1 − m) takes
        the place of ηλ.
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
    """λ_e = ηλ/(1 − m) + ½ d ln η/dt: what governs a scale-invariant network, the rate η itself does not.

    Args:
        rate: Η.
        decay: λ.
        rate_growth: D ln η/dt per step, for a rate that grows or falls.
        momentum: m.

    Raises:
        BadInput: A momentum out of range.

    Source:
        Li, Lyu, Arora 2020, section 3; the term of a changing rate is derived: without decay it is the exponential
        schedule that equals decay (Li, Arora 2020).
    """
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    return rate * decay / (1 - momentum) + 0.5 * rate_growth
