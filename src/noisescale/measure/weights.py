"""Norms, rotations and effective rates of each layer, from the weights before and after a step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from noisescale.errors import BadInput


@dataclass(frozen=True)
class LayerDynamics:
    """The effect of one step on one parameter w.

    Args:
        norm_squared: Squared norm ‖w‖² before the step.
        rotation: Angle between the weights before and after the step, in radians.
        effective_learning_rate: The rate η/‖w‖². Momentum does not change it.
        scale_invariance_defect: The cosine ⟨g, w⟩/(‖g‖‖w‖). It is 0 if the loss does not depend on the scale of w.
        rate_with_momentum: The rate η/((1 − m)‖w‖²). A gradient moves the weights by this rate in all later steps
            together.
    """

    norm_squared: float
    rotation: float
    effective_learning_rate: float
    scale_invariance_defect: float
    rate_with_momentum: float


@dataclass(frozen=True)
class WeightDynamics:
    """The effect of one step on all parameters.

    Args:
        layers: The effect on each parameter, by name.
        total: The effect on all weights as one vector.
        status: Always "exact".
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
    """Compute norm, rotation, effective rate and scale-invariance defect of each parameter and of all parameters.

    Args:
        before: Weights before the step, by parameter name.
        after: Weights after the step, by parameter name.
        gradient: Gradient at `before`, by parameter name.
        learning_rate: Rate η of this step: one number, or a number for each parameter by name. If the numbers differ,
            the effective rates of `total` are NaN.
        momentum: Momentum m. It enters only `rate_with_momentum`.

    Returns:
        The effect of the step on each parameter and on all weights.

    Raises:
        BadInput: Names or shapes differ, a rate is not positive, or the momentum is out of range.

    Source:
        Li, Lyu, Arora 2020, section 3: the effective rate of a scale-invariant weight is η/‖w‖². Wan, Zhu, Zhang, Sun
        2021, for the factor 1/(1 − m).
    """
    for label, tensors in (("after", after), ("gradient", gradient)):
        names_match = tensors.keys() == before.keys()
        if not names_match or any(tensors[name].shape != tensor.shape for name, tensor in before.items()):
            raise BadInput(label, "the names and shapes of `before`", "different names or shapes")
    rates = learning_rate if isinstance(learning_rate, Mapping) else dict.fromkeys(before, learning_rate)
    if rates.keys() != before.keys() or not all(rate > 0 for rate in rates.values()):
        raise BadInput("learning_rate", "a number above 0, or one for each parameter", learning_rate)
    if not 0 <= momentum < 1:
        raise BadInput("momentum", "from 0 to below 1", momentum)
    sums = {name: _Sums.of(before[name], after[name], gradient[name]) for name in before}
    total = _Sums(*(sum(values) for values in zip(*(products.values() for products in sums.values()), strict=True)))
    distinct = set(rates.values())
    return WeightDynamics(
        {name: products.dynamics(rates[name], momentum) for name, products in sums.items()},
        total.dynamics(distinct.pop() if len(distinct) == 1 else math.nan, momentum),
    )


def rotation_angles(before: Tensor, after: Tensor) -> Tensor:
    """Compute the angles between tensors before and after a step.

    Args:
        before: Tensors of R runs before the step, shape [R, …].
        after: Tensors of R runs after the step, shape [R, …].

    Returns:
        Angles, shape [R], in radians and float64.
    """
    w = before.flatten(1).double()
    d = after.flatten(1).double() - w
    return _angle((w * w).sum(1), (d * d).sum(1), (w * d).sum(1))


def _angle(ww: Tensor, dd: Tensor, wd: Tensor) -> Tensor:
    """Compute the angle between w and w + d from inner products of w and d."""
    # The tangent keeps all digits of a small angle. The cosine would lose half of the digits.
    return torch.atan2((ww * dd - wd.square()).clamp_min(0).sqrt(), ww + wd)


@dataclass(frozen=True)
class _Sums:
    """Inner products of the weights w, the step d and the gradient g."""

    ww: float
    dd: float
    wd: float
    gg: float
    gw: float

    @classmethod
    def of(cls, before: Tensor, after: Tensor, gradient: Tensor) -> _Sums:
        w, u, g = (tensor.detach().double().flatten() for tensor in (before, after, gradient))
        d = u - w
        return cls(float(w @ w), float(d @ d), float(w @ d), float(g @ g), float(g @ w))

    def values(self) -> tuple[float, ...]:
        return self.ww, self.dd, self.wd, self.gg, self.gw

    def dynamics(self, rate: float, momentum: float) -> LayerDynamics:
        sizes = math.sqrt(self.gg * self.ww)
        effective = rate / self.ww if self.ww else math.inf
        return LayerDynamics(
            self.ww,
            float(_angle(*torch.tensor([self.ww, self.dd, self.wd], dtype=torch.float64))),
            effective,
            self.gw / sizes if sizes else 0.0,
            effective / (1 - momentum),
        )
