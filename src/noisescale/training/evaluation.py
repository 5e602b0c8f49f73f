"""Accuracy and loss of a whole pack on a whole data set, in chunks that bound memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noisescale.training.kernels import Kernel, Tensors
from noisescale.training.losses import Loss

# Numbers in the widest activation of one chunk (512 KiB in float32): between 512 and 2048 rows measured fastest at
# widths 32 and 256.
_CHUNK_ELEMENTS = 131_072
_SMALLEST_CHUNK = 64
# What a chunk's widest activation may hold whatever its speed, 64 MiB in float32; one example always passes.
_MOST_ELEMENTS = 2**24
# A GPU has no such cache to keep to and is idle on small chunks.
_GPU_TIMES = 256


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the data on the device.

    Arguments:
        inputs: [M, …]. rows: targets as rows [M, K]. labels: [M], or None where targets are real values.
    """

    inputs: Tensor
    rows: Tensor
    labels: Tensor | None

    def take(self, index: Tensor) -> Split:
        """The examples at `index` [n]."""
        labels = None if self.labels is None else self.labels[index]
        return Split(self.inputs[index], self.rows[index], labels)

    def chance_accuracy(self) -> float:
        """Share of the largest class; NaN where targets are real values."""
        return math.nan if self.labels is None else float(torch.bincount(self.labels).max() / len(self.labels))


def chunk_of(numbers: int, inputs: Tensor) -> int:
    """Examples of `inputs` that are passed at once, where the widest activation of one has so many numbers."""
    fast = max(_SMALLEST_CHUNK, _CHUNK_ELEMENTS * (_GPU_TIMES if inputs.is_cuda else 1) // numbers)
    return fast if inputs.is_cuda else max(1, min(fast, _MOST_ELEMENTS // numbers))


def evaluate(
    kernel: Kernel, loss: Loss, parameters: Tensors, buffers: Tensors, split: Split, numbers: int
) -> tuple[Tensor, Tensor]:
    """Mean loss [R] and accuracy [R] (nan for real-valued targets) of every run.

    Arguments:
        parameters, buffers: [R, …] each. split: M examples, the same for every run.
        numbers: the widest activation of one example, in numbers, by which a chunk of examples is sized.
    Returns:
        Loss in the loss's unit (nats for cross-entropy), accuracy as a fraction, both float64.
    """
    runs = next(iter(parameters.values())).shape[0]
    examples = split.inputs.shape[0]
    # One run at a time on a core: the chunk's activations then stay in the cache, which measured faster than whole
    # packs. A GPU takes as many runs at once as fill it.
    together = max(1, chunk_of(numbers, split.inputs) // max(examples, 1)) if split.inputs.is_cuda else 1
    chunk = chunk_of(numbers * together, split.inputs)
    losses, correct = torch.zeros(2, runs, dtype=torch.float64, device=split.inputs.device)
    with torch.no_grad():
        for first in range(0, runs, together):
            some = slice(first, first + together)
            own, moving = (
                {name: tensor[some] for name, tensor in tensors.items()} for tensors in (parameters, buffers)
            )
            for start in range(0, examples, chunk):
                part = slice(start, start + chunk)
                outputs = kernel.outputs(own, moving, split.inputs[part])
                losses[some] += loss.per_example(outputs, split.rows[part]).sum(1)
                if split.labels is not None:
                    correct[some] += (outputs.argmax(-1) == split.labels[part]).sum(1)
    accuracy = torch.full_like(correct, torch.nan) if split.labels is None else correct / examples
    return losses / examples, accuracy
