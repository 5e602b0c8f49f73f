"""Measures how far a network is from scale invariance, because of the ε in its normalizations.

With a normalization after every weight layer, no gains and shifts, and a fixed read-out, the loss depends only on the
direction of each weight: L(cw) = L(w) for c > 0, and therefore ⟨g, w⟩ = 0 for the gradient g. This holds exactly only
for ε = 0. With √(v + ε) in the denominator, scaling the weights by c has the same effect as dividing ε by c². The
defect is therefore proportional to ε/v.

Source: Li, Lyu, Arora 2020, section 2; Arora, Li, Lyu 2019 for the lemma.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale.errors import BadInput
from noisescale.families.copying import copy_module
from noisescale.families.modes import converted, in_mode

# Torch's default ε, and smaller values down to the precision of float64.
EPSILONS = (1e-5, 1e-7, 1e-9, 1e-11)


@dataclass(frozen=True, slots=True)
class ScaleDefect:
    """The defect of one weight tensor at one ε.

    Args:
        parameter: Name of the weight tensor, or "all" if all tensors are scaled at once.
        epsilon: The ε of every normalization.
        loss_change: The change |L(cw) − L(w)| of the loss, in the unit of the loss.
        alignment: The cosine |⟨g, w⟩|/(‖g‖‖w‖) between gradient and weights.
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
    """Measure the change of the loss and the alignment, for each parameter and for all parameters together.

    The measurement uses float64 and training mode. The model is not changed.

    Args:
        model: Any module with normalization layers.
        loss: A function (outputs, targets) that returns the mean loss over the batch.
        data: One batch of inputs and targets.
        epsilons: Values of ε to use in every normalization.
        scale: Factor c > 0 by which weights are multiplied. Default 2. For a small ε, the change of the loss is
            proportional to (1 − 1/c²)·ε/v, so a larger c adds little.

    Returns:
        One entry for each ε and parameter, in the order of `named_parameters()`. The last entry of each ε is "all".

    Raises:
        BadInput: The model has no normalization, or the scale is not positive.
    """
    if not scale > 0:
        raise BadInput("scale", "a positive number", scale)
    twin = in_mode(converted(copy_module(model), torch.float64), training=True)
    normalizers = [module for module in twin.modules() if hasattr(module, "eps")]
    if not normalizers:
        raise BadInput("model", "a module with normalization layers", type(model).__name__)
    inputs, targets = (part.double() if part.is_floating_point() else part for part in data)
    weights: dict[str, Tensor] = dict(twin.named_parameters())

    def loss_at(parameters: dict[str, Tensor]) -> Tensor:
        return loss(functional_call(twin, parameters, (inputs.clone(),)), targets)

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
