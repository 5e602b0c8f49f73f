"""How far a network is from scale invariance: the defect that the ε of its normalizations causes.

With a normalization after every weight layer, no affine parameters and a fixed read-out, the loss is a function of
each weight's direction alone: L(cw) = L(w) for c > 0, hence ⟨g, w⟩ = 0 (Euler). That holds for ε = 0; with √(v + ε) in
the denominator, scaling the weights by c is the same as dividing ε by c², so the defect shrinks in proportion to ε/v.

Source: Li, Lyu, Arora 2020, section 2; Arora, Li, Lyu 2019 for the lemma.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale.errors import BadInput

# Torch's default ε, and smaller ones down to where float64 ends.
EPSILONS = (1e-5, 1e-7, 1e-9, 1e-11)


@dataclass(frozen=True, slots=True)
class ScaleDefect:
    """The defect of one weight tensor at one ε.

    Args:
        parameter: Name of the weight tensor, or "all" if all tensors are scaled at once.
        epsilon: ε of every normalization.
        loss_change: |L(cw) − L(w)|, in the loss's unit.
        alignment: |⟨g, w⟩|/(‖g‖‖w‖).
    """

    parameter: str
    epsilon: float
    loss_change: float
    alignment: float


def scale_invariance_defects(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: tuple[Tensor, Tensor],
    *,
    epsilons: Sequence[float] = EPSILONS,
    scale: float = 2.0,
) -> list[ScaleDefect]:
    """Measure both defects in float64 and training mode, for each parameter and for all; the model is not changed.

    Args:
        model: Any module with normalization layers.
        loss: (outputs, targets) -> mean over the batch.
        data: One batch of inputs and targets.
        epsilons: Values of ε to put into every normalization.
        scale: Factor c > 0 on the weights. Default 2: for a small ε the defect is near ε/v·(1 − 1/c²) of its
            slope, so a larger c adds little.

    Returns:
        One row for each ε and parameter, in the order of `named_parameters()`, then "all".

    Raises:
        BadInput: A model without normalization, or a scale that is not positive.
    """
    if not scale > 0:
        raise BadInput("scale", "a positive number", scale)
    twin = copy.deepcopy(model).double().train()
    normalizers = [module for module in twin.modules() if hasattr(module, "eps")]
    if not normalizers:
        raise BadInput("model", "a module with normalization layers", type(model).__name__)
    inputs, targets = (part.double() if part.is_floating_point() else part for part in data)
    weights: dict[str, Tensor] = dict(twin.named_parameters())

    def loss_at(parameters: dict[str, Tensor]) -> Tensor:
        return loss(functional_call(twin, parameters, (inputs,)), targets)

    defects = []
    for epsilon in epsilons:
        for normalizer in normalizers:
            normalizer.eps = epsilon  # type: ignore[assignment]
        value = loss_at(weights)
        gradients = dict(zip(weights, torch.autograd.grad(value, list(weights.values())), strict=True))
        for parameter, names in [*((name, [name]) for name in weights), ("all", list(weights))]:
            scaled = {**weights, **{name: scale * weights[name] for name in names}}
            change = abs(float((loss_at(scaled) - value).detach()))
            g, w = (torch.cat([part[name].detach().flatten() for name in names]) for part in (gradients, weights))
            defects.append(ScaleDefect(parameter, epsilon, change, abs(float(g @ w / (g.norm() * w.norm())))))
    return defects
