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


def chunk_of(numbers: int) -> int:
    """Examples that are passed at once, where the widest activation of one has so many numbers."""
    return max(_SMALLEST_CHUNK, _CHUNK_ELEMENTS // numbers)


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
    chunk = chunk_of(numbers)
    losses, correct = torch.zeros(2, runs, dtype=torch.float64, device=split.inputs.device)
    with torch.no_grad():
        # One run at a time: the chunk's activations then stay in the cache, which measured faster than whole packs.
        for run in range(runs):
            own, moving = (
                {name: tensor[run : run + 1] for name, tensor in tensors.items()} for tensors in (parameters, buffers)
            )
            for start in range(0, examples, chunk):
                part = slice(start, start + chunk)
                outputs = kernel.outputs(own, moving, split.inputs[part])[0]
                losses[run] += loss.per_example(outputs, split.rows[part]).sum()
                if split.labels is not None:
                    correct[run] += (outputs.argmax(-1) == split.labels[part]).sum()
    accuracy = torch.full_like(correct, torch.nan) if split.labels is None else correct / examples
    return losses / examples, accuracy
