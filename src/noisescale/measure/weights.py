"""Norms and effective rates, layer by layer, from the weights before and after one step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from noisescale.errors import BadInput


@dataclass(frozen=True)
class LayerDynamics:
    """One parameter's step.

    Args:
        norm_squared: ‖w‖² before the step.
        rotation: Angle between before and after, in radians.
        effective_learning_rate: Η/((1 − m)‖w‖²).
        scale_invariance_defect: ⟨g, w⟩/(‖g‖‖w‖), 0 where the loss does not depend on the scale of w.
    """

    norm_squared: float
    rotation: float
    effective_learning_rate: float
    scale_invariance_defect: float


@dataclass(frozen=True)
class WeightDynamics:
    """All parameters' step.

    Args:
        layers: By parameter name.
        total: Of all weights as one vector.
        status: advice.
    """

    layers: dict[str, LayerDynamics]
    total: LayerDynamics
    status: str = "exact"


def weight_dynamics(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    gradient: Mapping[str, Tensor],
    learning_rate: float | Mapping[str, float],
    momentum: float = 0.0,
) -> WeightDynamics:
    """Norm, rotation, effective rate and scale-invariance defect of every parameter and of all together.

    Args:
        before: Weights by parameter name.
        after: Weights by parameter name.
        gradient: At `before`.
        learning_rate: Η of the step, one number, or one a parameter (then the total's effective rate is NaN); under a
            schedule, that of this step.
        momentum: m.

    Raises:
        BadInput: Other names or shapes in one of them, a rate that is not positive, or a momentum out of range.

    Source:
        Li, Lyu, Arora 2020, section 3: the effective rate of a scale-invariant weight is η/‖w‖².
    """
    for label, own in (("after", after), ("gradient", gradient)):
        if own.keys() != before.keys() or any(own[name].shape != one.shape for name, one in before.items()):
            raise BadInput(label, "the names and shapes of `before`", "others")
    rates = learning_rate if isinstance(learning_rate, Mapping) else dict.fromkeys(before, learning_rate)
    if rates.keys() != before.keys() or not all(rate > 0 for rate in rates.values()):
        raise BadInput("learning_rate", "a number above 0, or one a parameter", learning_rate)
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    rates = {name: rate / (1 - momentum) for name, rate in rates.items()}
    sums = {name: _Sums.of(before[name], after[name], gradient[name]) for name in before}
    whole = _Sums(*(sum(values) for values in zip(*(own.values() for own in sums.values()), strict=True)))
    distinct = set(rates.values())
    return WeightDynamics(
        {name: own.dynamics(rates[name]) for name, own in sums.items()},
        whole.dynamics(distinct.pop() if len(distinct) == 1 else math.nan),
    )


def rotation_angles(before: Tensor, after: Tensor) -> Tensor:
    """The angles [R] between R tensors before and after a step, [R, …] each, in radians and float64."""
    w = before.flatten(1).double()
    d = after.flatten(1).double() - w
    return _angle((w * w).sum(1), (d * d).sum(1), (w * d).sum(1))


def _angle(ww: Tensor, dd: Tensor, wd: Tensor) -> Tensor:
    """Between w and w + d, from their inner products."""
    # By the tangent, and from the step: the cosine of a small angle has lost half of its digits.
    return torch.atan2((ww * dd - wd.square()).clamp_min(0).sqrt(), ww + wd)


@dataclass(frozen=True)
class _Sums:
    """Inner products of the weights w, their step d and the gradient g."""

    ww: float
    dd: float
    wd: float
    gg: float
    gw: float

    @classmethod
    def of(cls, before: Tensor, after: Tensor, gradient: Tensor) -> _Sums:
        w, u, g = (one.detach().double().flatten() for one in (before, after, gradient))
        d = u - w
        return cls(float(w @ w), float(d @ d), float(w @ d), float(g @ g), float(g @ w))

    def values(self) -> tuple[float, ...]:
        return self.ww, self.dd, self.wd, self.gg, self.gw

    def dynamics(self, rate: float) -> LayerDynamics:
        sizes = math.sqrt(self.gg * self.ww)
        return LayerDynamics(
            self.ww,
            float(_angle(*torch.tensor([self.ww, self.dd, self.wd], dtype=torch.float64))),
            rate / self.ww if self.ww else math.inf,
            self.gw / sizes if sizes else 0.0,
        )
