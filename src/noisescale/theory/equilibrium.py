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

    Arguments:
        norm: ‖w‖. effective_learning_rate: η/‖w‖². rotation: root mean square angle of one step, in radians.
        relaxation: rate per step at which ‖w‖⁴ approaches its end; its inverse is a number of steps.
    """

    norm: float
    effective_learning_rate: float
    rotation: float
    relaxation: float


def norm_recursion(
    norm_squared: float, unit_gradients_squared: ArrayLike, rates: ArrayLike, decays: ArrayLike
) -> NDArray[np.float64]:
    """‖w_t‖² of a scale-invariant weight under SGD with decay, exactly.

    R_{t+1} = (1 − η_tλ_t)² R_t + η_t²‖ĝ_t‖²/R_t, with ĝ the gradient at w/‖w‖; no momentum.

    Arguments:
        norm_squared: R_0. unit_gradients_squared: ‖ĝ_t‖², [T]. rates, decays: η_t and λ_t, [T] or one number.
    Returns:
        [T + 1].
    Source:
        Li, Lyu, Arora 2020, section 3, derived: w_{t+1} = (1 − ηλ)w_t − ηg_t with ⟨g, w⟩ = 0 and g = ĝ/‖w‖.
    """
    squares = np.atleast_1d(np.asarray(unit_gradients_squared, dtype=np.float64))
    rate, decay = (np.broadcast_to(np.asarray(own, dtype=np.float64), squares.shape) for own in (rates, decays))
    found = [float(norm_squared)]
    for eta, lam, square in zip(rate, decay, squares, strict=True):
        found.append((1 - eta * lam) ** 2 * found[-1] + eta**2 * square / found[-1])
    return np.array(found)


def equilibrium(rate: float, decay: float, unit_gradient_squared: float, momentum: float = 0.0) -> Equilibrium:
    """‖w‖⁴ = ηS/(λ(1 − m)(2 − λη/(1 + m))), the effective rate there, and the rotation √(2ηλ/(1 + m)).

    Arguments:
        rate: η. decay: λ, coupled. unit_gradient_squared: S = E‖ĝ‖², the full second moment of a batch's gradient on
            the unit sphere. momentum: m of heavy-ball SGD.
    Raises:
        BadInput: a rate, decay or second moment that is not positive, or ηλ ≥ 1.
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

    Arguments:
        rate: η. decay: λ. rate_growth: d ln η/dt per step, for a rate that grows or falls. momentum: m.
    Raises:
        BadInput: a momentum out of range.
    Source:
        Li, Lyu, Arora 2020, section 3; the term of a changing rate is derived: without decay it is the exponential
        schedule that equals decay (Li, Arora 2020).
    """
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    return rate * decay / (1 - momentum) + 0.5 * rate_growth
