"""Alignment of weights with the activations that they multiply."""

from __future__ import annotations

import math

from torch import Tensor, nn

from noisescale.measure.packs.snapshot import Snapshot


def alignment(snapshot: Snapshot) -> dict[str, Tensor]:
    """Measure the alignment log_n(‖Wh‖/(‖W‖‖h‖)) of each linear and convolutional layer.

    Here ‖·‖ is a root mean square, and n > 1 is the fan-in. The alignment is ½ for independent weights and activations,
    and 1 if they are fully aligned. Zero padding lowers it slightly.

    Args:
        snapshot: The pack at one step of training.

    Returns:
        The alignments by column name, shape [R] each.

    Source:
        Everett et al. 2024, section 3, for the log alignment ratio.
    """
    ratios = snapshot.problem.over_layers(_log_ratio)
    return {f"alignment.{name}.weight": values for name, values in ratios.items()}


def _log_ratio(layer: nn.Linear | nn.Conv2d, inputs: Tensor, outputs: Tensor) -> Tensor | None:
    fan_in = layer.weight[0].numel()
    if fan_in == 1:
        return None
    if layer.bias is not None:
        outputs = outputs - layer.bias.view(-1, *(1,) * (2 if isinstance(layer, nn.Conv2d) else 0))
    product, weight, hidden = (tensor.square().mean().sqrt() for tensor in (outputs, layer.weight, inputs))
    return (product / (weight * hidden)).log().double() / math.log(fan_in)
