"""Gradients of a batch that are accumulated over its parts, so that a large batch needs the memory of a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from noisescale.named_inputs import Inputs
from noisescale.parameterizations import stream_number
from noisescale.runs import Run
from noisescale.training.optimizers import Tensors

Unused = Mapping[str, Sequence[int]]
# Computes a part of the batch: (inputs, targets, seeds) -> (losses [R] or None, gradients, runs that did not use a
# parameter).
ComputePart = Callable[[Inputs, Tensor, Sequence[int] | None], tuple[Tensor | None, Tensors, Unused]]

_AVERAGED, _COUNTED = ("running_mean", "running_var"), "num_batches_tracked"


def parts_of(batch_size: int, microbatch: int | None) -> list[slice]:
    """Return the parts of a batch. The last part may be smaller.

    Args:
        batch_size: Number of examples B of the batch.
        microbatch: Number of examples of a part. None for the whole batch.
    """
    size = min(batch_size, microbatch or batch_size)
    return [slice(start, min(start + size, batch_size)) for start in range(0, batch_size, size)]


def part_seeds(runs: Sequence[Run], step: int, part: int, parts: int) -> list[int]:
    """Return the seed of each run for the random operations of a part (dropout), which the part has for itself.

    Args:
        runs: The runs that train together.
        step: Number of the step, from 1.
        part: Number of the part, from 0.
        parts: Number of parts of the batch.
    """
    labels = (step,) if parts == 1 else (step, "part", part)
    return [stream_number(run.seed, "forward pass", *labels) for run in runs]


def accumulate(
    compute: ComputePart,
    buffers: Tensors,
    inputs: Inputs,
    targets: Tensor,
    parts: Sequence[slice],
    seeds: Sequence[Sequence[int] | None],
    share: Callable[[Tensor, Tensor], Tensor | float],
) -> tuple[Tensor | None, Tensors, Unused]:
    """Compute losses and gradients of the mean over a batch, part after part.

    The running statistics of batch normalization move once per batch, towards the mean over the parts.

    Args:
        compute: Computes a part.
        buffers: Buffers of the runs, shape [R, …] each. Changed in place.
        inputs: Inputs of the batch, shape [R, B, …].
        targets: Targets of the batch, shape [R, B, K].
        parts: Parts of the batch, from `parts_of`.
        seeds: Seeds of the runs for each part, or None.
        share: A function from the targets of a part and of the batch to the weight of the part in the batch, shape [R]
            or a number.

    Returns:
        The losses, shape [R], or None; the gradients by parameter, shape [R, …] each; and the runs that did not use a
        parameter in any part.
    """
    if len(parts) == 1:
        return compute(inputs, targets, seeds[0])
    statistics = [name for name in buffers if name.rpartition(".")[2] in (*_AVERAGED, _COUNTED)]
    before = {name: buffers[name].clone() for name in statistics}
    moved = {name: torch.zeros_like(buffers[name]) for name in statistics if not name.endswith(_COUNTED)}
    losses: Tensor | None = None
    gradients: Tensors = {}
    idle: dict[str, set[int]] = {}
    for place, part in enumerate(parts):
        for name, values in before.items():
            buffers[name].copy_(values)
        weight = torch.as_tensor(share(targets[:, part], targets), dtype=torch.float64, device=targets.device)
        weight = weight.expand(len(targets))
        part_losses, part_gradients, unused = compute(inputs[:, part], targets[:, part], seeds[place])
        if part_losses is not None:
            weighted = part_losses * weight.to(part_losses)
            losses = weighted if losses is None else losses + weighted
        for name, gradient in part_gradients.items():
            weighted = gradient * _along(weight, gradient)
            gradients[name] = gradients[name].add_(weighted) if name in gradients else weighted
        for name, values in moved.items():
            values += buffers[name] * _along(weight, values)
        skipped = {name: set(runs) for name, runs in unused.items()}
        idle = skipped if place == 0 else {name: runs & skipped.get(name, set()) for name, runs in idle.items()}
    for name, values in moved.items():
        buffers[name].copy_(values)
    return losses, gradients, {name: sorted(runs) for name, runs in idle.items() if runs}


def _along(weight: Tensor, tensor: Tensor) -> Tensor:
    return weight.to(tensor).view(-1, *(1,) * (tensor.dim() - 1))
