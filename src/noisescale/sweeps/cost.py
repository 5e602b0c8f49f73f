"""Estimates of the time and memory of packs (runs that train together).

The estimates limit the size of packs, order packs by length and answer `--dry-run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisescale.families import in_mode
from noisescale.named_inputs import Inputs
from noisescale.runs import Run
from noisescale.training import batches_of
from noisescale.user_code import contained

# Both constants are measured on 2 cores of a 2.6 GHz machine with one thread per worker (benchmarks/results/speed.md).
# Results of training do not depend on them.
# The overhead of a training step.
SECONDS_PER_STEP = 70e-6
# The rate of multiplications in small matrix products.
OPERATIONS_PER_SECOND = 2.5e10

# Number of tensors with the size of the parameters in each run: parameters, gradients, update and rates.
_COPIES = 4


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The sizes of a model and its data that determine the cost of a pack.

    Args:
        parameters: Number of parameters of the model of one run.
        activations: Number of activations for one example.
        examples: Number of examples per evaluation: training, validation and test examples together.
        operations: Multiplications by weights in the forward pass of one example. A convolution uses each weight at
            every pixel, so this can be larger than the number of parameters.
    """

    parameters: int
    activations: int
    examples: int
    operations: int = 0

    @property
    def work(self) -> int:
        """Multiplications in the forward pass of one example; at least one per parameter."""
        return max(self.parameters, self.operations)


def measure_size(module: nn.Module, inputs: Inputs, examples: int) -> ModelSize:
    """Measure the sizes of a module with one forward pass in evaluation mode, and leave the module in that mode.

    Args:
        module: The module.
        inputs: A few examples, shape [B, …].
        examples: Number of examples per evaluation.

    Returns:
        The sizes.
    """
    activations, operations = [inputs.numel()], [0]

    def count(part: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            activations.append(output.numel())
            weight = getattr(part, "weight", None)
            if isinstance(weight, Tensor) and weight.dim() > 1:
                operations.append(output.numel() * weight[0].numel())

    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    # Scripted modules take no hooks.
    hooks = [part.register_forward_hook(count) for part in leaves if not isinstance(part, torch.jit.ScriptModule)]
    # The user's module may fail at some width. Training reports that failure later; the estimate must not fail.
    with torch.no_grad(), contextlib.suppress(Exception), contained():
        in_mode(module, training=False)(inputs.clone())
    for hook in hooks:
        hook.remove()
    parameters = sum(tensor.numel() for tensor in module.parameters())
    return ModelSize(parameters, sum(activations) // len(inputs), examples, sum(operations) // len(inputs))


def seconds(runs: Sequence[Run], size: ModelSize) -> float:
    """Estimate the time of one pack on one worker.

    Args:
        runs: The runs of the pack.
        size: The sizes of the model and the data.

    Returns:
        Seconds.
    """
    first_run, count = runs[0], len(runs)
    examples = batches_of(first_run).examples(first_run.steps)
    training = first_run.steps * SECONDS_PER_STEP + 6 * count * examples * size.work / OPERATIONS_PER_SECOND
    evaluation = first_run.evaluations * 2 * count * size.examples * size.work / OPERATIONS_PER_SECOND
    return training + (0.0 if first_run.purpose == "stability" else evaluation)


def memory(runs: Sequence[Run], size: ModelSize) -> int:
    """Estimate the memory of one pack.

    Args:
        runs: The runs of the pack.
        size: The sizes of the model and the data.

    Returns:
        Bytes.
    """
    largest = batches_of(runs[0]).largest
    at_once = min(largest, runs[0].microbatch or largest)
    per_run = _COPIES * size.parameters + 3 * at_once * size.activations
    return len(runs) * per_run * (8 if runs[0].precision == "float64" else 4)
