"""The memory that a training step needs, and the number of runs that can train together in a cache or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from noisescale.families import copy_module, in_mode
from noisescale.named_inputs import Inputs
from noisescale.user_code import preserved_process

# Largest number of bytes for the parameters and activations of the runs that train together. With their gradients, they
# about fill a core's second-level cache. With more runs, the weights are read from memory at every step, which halves
# the speed at width 128 with 64 runs. With fewer runs, each run bears a larger part of a step's overhead.
PART_BYTES = 2 << 20

# The share of a GPU's free memory that a step may fill. The rest is for evaluation and fragmentation.
SHARE_OF_FREE = 0.6


@dataclass(frozen=True, slots=True)
class Footprint:
    """The number of tensor elements that one example needs.

    Args:
        kept: Elements of the input and of the outputs of all modules with parameters. They are kept for the backward
            pass.
        largest: Elements of the largest intermediate tensor, including attention scores. It determines the size of the
            chunks of an evaluation.
    """

    kept: int
    largest: int


def footprint(module: nn.Module, inputs: Inputs) -> Footprint:
    """Measure the footprint of a module by one forward pass.

    Args:
        module: The module.
        inputs: A few examples, shape [B, …].
    """
    trial = in_mode(copy_module(module), training=False)
    kept: list[int] = []

    def note(_part: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            kept.append(-(-output.numel() // len(inputs)))

    for part in trial.modules():
        own = list(part.parameters(recurse=False))
        if own and isinstance(part, torch.jit.ScriptModule):
            # Scripted modules take no hooks. A layer has as many outputs as its weight has rows, at one position.
            kept.append(own[0].shape[0])
        elif own:
            part.register_forward_hook(note)
    with preserved_process(), torch.no_grad(), _LargestTensor() as widest:
        trial(inputs.clone())
    return Footprint(inputs[:1].numel() + sum(kept), max(1, -(-widest.elements // len(inputs))))


class _LargestTensor(TorchFunctionMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dim():
            self.elements = max(self.elements, result.numel())
        return result


def part_size(parameters: dict[str, Tensor], batch_size: int, kept: int) -> int:
    """Return the number of runs that train together, at least one. They fit into the cache, and all parts are equal.

    Args:
        parameters: Parameters by name, shape [R, …] each.
        batch_size: B, in examples.
        kept: Number of elements that one example keeps for the backward pass.
    """
    tensors = list(parameters.values())
    runs = tensors[0].shape[0]
    elements = sum(tensor[0].numel() for tensor in tensors) + batch_size * kept
    return equal_parts(runs, max(1, PART_BYTES // (elements * tensors[0].element_size())))


def equal_parts(runs: int, most: int) -> int:
    """Return the size of the parts when runs are split into the fewest equal parts of at most `most` runs."""
    parts = -(-runs // most)
    return -(-runs // parts)


def runs_in_memory(peak: Callable[[int], int], free: int, runs: int) -> int:
    """Return the number of runs that fit into the free memory of a GPU, at least one.

    The peak memory is measured for one run and for two runs, and extrapolated linearly to more runs.

    Args:
        peak: A function from a number of runs to the peak memory of their step, in bytes.
        free: Free memory, in bytes.
        runs: The number of runs in the pack.
    """
    if runs == 1:
        return 1
    peak_of_one, peak_of_two = peak(1), peak(2)
    bytes_per_run = max(peak_of_two - peak_of_one, 1)
    return max(1, min(runs, int((SHARE_OF_FREE * free - (peak_of_one - bytes_per_run)) // bytes_per_run)))


def cuda_peak(step: Callable[[int], None], device: str) -> Callable[[int], int]:
    """Return a function that takes a step on a GPU and measures its peak memory.

    Args:
        step: A function that takes one step of a number of runs.
        device: The GPU.

    Returns:
        A function from a number of runs to bytes.
    """

    def measure(runs: int) -> int:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(runs)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    return measure
