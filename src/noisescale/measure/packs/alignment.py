"""Alignment of weights with the activations they meet."""

from __future__ import annotations

import math

from torch import Tensor, nn

from noisescale.measure.packs.snapshot import Snapshot


def alignment(snapshot: Snapshot) -> dict[str, Tensor]:
    """log_n(‖Wh‖/(‖W‖‖h‖)) in root mean squares, of every linear and convolutional layer of fan-in n > 1.

    ½ where weights and activations know nothing of each other, 1 where they are fully aligned. Zeros that a convolution
    meets at a padded edge lower it a little.

    Source:
        Everett et al. 2024, section 3, for the log alignment ratio.
    """
    found = snapshot.problem.over_layers(_log_ratio)
    return {f"alignment.{name}.weight": own for name, own in found.items()}


def _log_ratio(layer: nn.Linear | nn.Conv2d, inputs: Tensor, outputs: Tensor) -> Tensor | None:
    fan_in = layer.weight[0].numel()
    if fan_in == 1:
        return None
    if layer.bias is not None:
        outputs = outputs - layer.bias.view(-1, *(1,) * (2 if isinstance(layer, nn.Conv2d) else 0))
    product, weight, hidden = (own.square().mean().sqrt() for own in (outputs, layer.weight, inputs))
    return (product / (weight * hidden)).log().double() / math.log(fan_in)
