"""The memory of a step: what one example leaves behind, and how many runs train together in a cache or on a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Bytes of parameters and of one step's activations of the runs that train together: with gradients, about a core's
# second-level cache. More runs stream their weights from memory at every step (measured: half the speed at width 128
# with 64 runs); fewer runs share the overhead of a step among too few.
PART_BYTES = 2 << 20

# The share of a GPU's free memory that a step may fill. The rest is for evaluation and fragmentation.
SHARE_OF_FREE = 0.6


@dataclass(frozen=True, slots=True)
class Footprint:
    """Numbers per example.

    Args:
        kept: The input, and the outputs of all modules that own parameters, which a backward pass keeps.
        largest: The largest intermediate tensor, attention scores included, which sizes the chunks of an evaluation.
    """

    kept: int
    largest: int


def footprint(module: nn.Module, inputs: Tensor) -> Footprint:
    """Measure the footprint of a module by one forward pass.

    Args:
        module: The module.
        inputs: A few examples, [B, …].
    """
    trial = copy.deepcopy(module).eval()
    kept: list[int] = []

    def note(_part: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            kept.append(-(-output.numel() // len(inputs)))

    for part in trial.modules():
        if any(True for _ in part.parameters(recurse=False)):
            part.register_forward_hook(note)
    with torch.no_grad(), _Widest() as widest:
        trial(inputs)
    return Footprint(inputs[0].numel() + sum(kept), max(1, -(-widest.numbers // len(inputs))))


class _Widest(TorchFunctionMode):
    """Records the size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dim():
            self.numbers = max(self.numbers, result.numel())
        return result


def part_size(parameters: dict[str, Tensor], batch_size: int, kept: int) -> int:
    """Return how many runs train together, so that parts are equal and each stays in the cache; at least one.

    Args:
        parameters: [R, …] each.
        batch_size: B, in examples.
        kept: Numbers that one example leaves behind for the backward pass.
    """
    tensors = list(parameters.values())
    runs = tensors[0].shape[0]
    numbers = sum(tensor[0].numel() for tensor in tensors) + batch_size * kept
    return equal_parts(runs, max(1, PART_BYTES // (numbers * tensors[0].element_size())))


def equal_parts(runs: int, most: int) -> int:
    """Return the size of equal parts, the fewest that contain at most `most` runs each."""
    parts = -(-runs // most)
    return -(-runs // parts)


def runs_in_memory(peak: Callable[[int], int], free: int, runs: int) -> int:
    """Return how many runs fit into the free memory, by a line through the peaks of one run and of two; at least one.

    Args:
        peak: From a number of runs to the peak memory of their step, in bytes.
        free: Free memory, in bytes.
        runs: The number of runs in the pack.
    """
    if runs == 1:
        return 1
    one, two = peak(1), peak(2)
    each = max(two - one, 1)
    return max(1, min(runs, int((SHARE_OF_FREE * free - (one - each)) // each)))


def cuda_peak(step: Callable[[int], None], device: str) -> Callable[[int], int]:
    """Return a function that measures the peak memory of a step on a GPU by taking it.

    Args:
        step: Takes one step of a number of runs.
        device: The GPU.

    Returns:
        From a number of runs to bytes.
    """

    def measure(runs: int) -> int:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(runs)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    return measure
