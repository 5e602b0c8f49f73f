"""Batch statistics over a whole training set, which replace the running averages of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noisescale.families import in_mode
from noisescale.named_inputs import Inputs, wide


class _LayerReached(Exception):
    """Ends a forward pass at the layer whose statistics are computed."""


def other_statistics(module: nn.Module) -> list[str]:
    """Return the layers with running averages that `exact_statistics` does not replace, e.g. in compiled scripts.

    Args:
        module: The module.
    """
    layers = ((name, part) for name, part in module.named_modules() if not isinstance(part, _BatchNorm))
    return [name or "the module" for name, part in layers if "running_mean" in dict(part.named_buffers(recurse=False))]


def exact_statistics(module: nn.Module, inputs: Inputs, chunk: int) -> dict[str, Tensor]:
    """Set the statistics of every batch-normalization layer to the mean and the biased variance over all inputs.

    Layers are set in the order of the forward pass. Afterwards an evaluation pass equals a training pass whose batch is
    the whole set. Each layer costs a forward pass up to this layer. A layer that is used several times gets the
    statistics of its first use. `torch.optim.swa_utils.update_bn` computes something else: it averages the unbiased
    variances of batches, and later layers see inputs that earlier layers normalized with the statistics of a batch.

    Args:
        module: The module. Changed in place and left in evaluation mode.
        inputs: All inputs, shape [N, …].
        chunk: Number of inputs of one forward pass.

    Returns:
        The means and variances, by the names of their buffers.
    """
    # First to training mode, because a module may compute something from its weights at the change.
    in_mode(in_mode(module, training=True), training=False)
    layers: list[_BatchNorm] = []
    handles = [
        part.register_forward_pre_hook(lambda layer, _inputs: layers.append(layer))
        for part in module.modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    ]
    with torch.no_grad():
        # A layer that keeps no running averages needs two examples.
        module(wide(inputs[:2]).clone())
        for handle in handles:
            handle.remove()
        for layer in dict.fromkeys(layers):
            _set_statistics(module, layer, inputs, chunk)
    return {
        f"{name}.{key}".lstrip("."): getattr(layer, key)
        for name, layer in module.named_modules()
        if layer in layers
        for key in ("running_mean", "running_var")
    }


def _set_statistics(module: nn.Module, layer: _BatchNorm, inputs: Inputs, chunk: int) -> None:
    count = 0
    total, squares = torch.zeros(2, layer.num_features, dtype=torch.float64, device=inputs.device)
    # Differences from the running mean are small, so the sum of their squares loses no precision.
    assert layer.running_mean is not None and layer.running_var is not None
    origin = layer.running_mean.double().clone()

    def add(_layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        values = arguments[0].transpose(0, 1).flatten(1).double() - origin.unsqueeze(1)
        count += values.shape[1]
        total.add_(values.sum(1))
        squares.add_(values.square().sum(1))
        raise _LayerReached

    handle = layer.register_forward_pre_hook(add)

    for start in range(0, len(inputs), chunk):
        try:
            module(wide(inputs[start : start + chunk]).clone())
        except _LayerReached:
            continue
    handle.remove()
    mean = total / count
    layer.running_mean.copy_(origin + mean)
    layer.running_var.copy_(squares / count - mean.square())
