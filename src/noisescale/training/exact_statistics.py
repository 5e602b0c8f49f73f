"""Batch statistics over a whole training set, in place of the running averages that training left behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Reached(Exception):
    """The forward pass has come to the layer that is being measured."""


def exact_statistics(module: nn.Module, inputs: Tensor, chunk: int) -> None:
    """Set every batch normalization of a module to the mean and variance over all inputs, first layer to last.

    Layer l is measured with all layers before it already at their exact values, so that the evaluation pass over the
    inputs normalizes as a training pass would whose batch is the whole set (the variance is the biased one). It costs
    one partial forward pass over the inputs for each layer. A layer that is used more than once is measured where it
    is used first.

    Args:
        module: Changed in place, left in evaluation mode.
        inputs: [N, …].
        chunk: Examples that are passed at once.
    """
    module.eval()
    layers: list[_BatchNorm] = []
    handles = [
        part.register_forward_pre_hook(lambda layer, _inputs: layers.append(layer))
        for part in module.modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    ]
    with torch.no_grad():
        module(inputs[:1])
        for handle in handles:
            handle.remove()
        for layer in dict.fromkeys(layers):
            _measure(module, layer, inputs, chunk)


def _measure(module: nn.Module, layer: _BatchNorm, inputs: Tensor, chunk: int) -> None:
    count = 0
    total, squares = torch.zeros(2, layer.num_features, dtype=torch.float64, device=inputs.device)
    # Differences from the running mean are small, so that the sum of their squares loses nothing.
    assert layer.running_mean is not None and layer.running_var is not None
    origin = layer.running_mean.double().clone()

    def note(_layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        values = arguments[0].transpose(0, 1).flatten(1).double() - origin.unsqueeze(1)
        count += values.shape[1]
        total.add_(values.sum(1))
        squares.add_(values.square().sum(1))
        raise _Reached

    handle = layer.register_forward_pre_hook(note)
    for start in range(0, len(inputs), chunk):
        try:
            module(inputs[start : start + chunk])
        except _Reached:
            continue
    handle.remove()
    mean = total / count
    layer.running_mean.copy_(origin + mean)
    layer.running_var.copy_(squares / count - mean.square())
