"""What a pack will cost, to size packs, to start the longest first and to answer `--dry-run`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisescale.runs import Run
from noisescale.training import batches_of

# Measured on 2 cores of a 2.6 GHz class machine with one thread a worker (benchmarks/results/speed.md): a step's
# overhead, and the rate of small matrix products. They size and order packs; no result depends on them.
SECONDS_PER_STEP = 70e-6
OPERATIONS_PER_SECOND = 2.5e10

# Kept for a run of a pack: parameters, gradients, update and rates in float32, and the activations of a batch.
_COPIES = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides a pack's cost.

    Args:
        parameters: Numbers in one run's model.
        activations: Numbers in one example's activations.
        examples: Evaluated per evaluation (training + validation + test).
        operations: Multiplications of one example's forward pass, where there are more than parameters: a convolution
            uses each of its weights at every pixel.
    """

    parameters: int
    activations: int
    examples: int
    operations: int = 0

    @property
    def work(self) -> int:
        """Multiplications of one example's forward pass; at least one a parameter."""
        return max(self.parameters, self.operations)


def measure_shape(module: nn.Module, inputs: Tensor, examples: int) -> Shape:
    """The shape of a module, by one forward pass in evaluation mode; the module is left in that mode.

    Args:
        module: The module.
        inputs: [B, …], a few examples.
        examples: As in `Shape`.
    """
    activations, operations = [inputs.numel()], [0]

    def count(part: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            activations.append(output.numel())
            weight = getattr(part, "weight", None)
            if isinstance(weight, Tensor) and weight.dim() > 1:
                operations.append(output.numel() * weight[0].numel())

    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    hooks = [part.register_forward_hook(count) for part in leaves]
    # A user's module may raise at one width only; that is for its packs to report, not for an estimate.
    with torch.no_grad(), contextlib.suppress(Exception):
        module.eval()(inputs)
    for hook in hooks:
        hook.remove()
    parameters = sum(tensor.numel() for tensor in module.parameters())
    return Shape(parameters, sum(activations) // len(inputs), examples, sum(operations) // len(inputs))


def seconds(runs: Sequence[Run], shape: Shape) -> float:
    """Estimated time of one pack on one worker, in seconds."""
    first, count = runs[0], len(runs)
    examples = batches_of(first).examples(first.steps)
    training = first.steps * SECONDS_PER_STEP + 6 * count * examples * shape.work / OPERATIONS_PER_SECOND
    evaluation = first.evaluations * 2 * count * shape.examples * shape.work / OPERATIONS_PER_SECOND
    return training + (evaluation if first.purpose == "sweep" else 0.0)


def memory(runs: Sequence[Run], shape: Shape) -> int:
    """Estimated memory of one pack, in bytes."""
    per_run = _COPIES * shape.parameters + 3 * batches_of(runs[0]).largest * shape.activations
    return len(runs) * per_run * (8 if runs[0].precision == "float64" else 4)
