"""How many runs of a pack train together between two evaluations: what a core's cache or a GPU's memory holds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Parameters and one step's activations of the runs that train together between two evaluations: about a core's
# second-level cache with its gradients. More runs at once stream their weights from memory at every step (measured:
# half the speed at width 128 with 64 runs), fewer share a step's overhead among too few.
PART_BYTES = 2 << 20

# Of the memory that a GPU has free, the share that a step may fill: the rest is for evaluation and fragmentation.
SHARE_OF_FREE = 0.6


def part_size(parameters: dict[str, Tensor], batch_size: int, kept: int) -> int:
    """Runs that train together, so that parts are equal and each stays in the cache; at least one.

    Args:
        parameters: [R, …] each.
        batch_size: B.
        kept: Numbers that one example leaves behind for the backward pass.
    """
    tensors = list(parameters.values())
    runs = tensors[0].shape[0]
    numbers = sum(tensor[0].numel() for tensor in tensors) + batch_size * kept
    return equal_parts(runs, max(1, PART_BYTES // (numbers * tensors[0].element_size())))


def equal_parts(runs: int, most: int) -> int:
    """Runs of each of the fewest parts that hold at most so many runs."""
    parts = -(-runs // most)
    return -(-runs // parts)


def runs_in_memory(peak: Callable[[int], int], free: int, runs: int) -> int:
    """Runs whose step fits into the free memory, by a line through the peaks of one run and of two; at least one.

    Args:
        peak: Bytes that a step of so many runs takes at most.
        free: bytes.
        runs: Those that there are.
    """
    if runs == 1:
        return 1
    one, two = peak(1), peak(2)
    each = max(two - one, 1)
    return max(1, min(runs, int((SHARE_OF_FREE * free - (one - each)) // each)))


def cuda_peak(step: Callable[[int], None], device: str) -> Callable[[int], int]:
    """Bytes that a step of so many runs takes at most on a GPU, by running it.

    Args:
        step: Computes one step of the first so many runs.
        device: Of the memory that is measured.
    """

    def measure(runs: int) -> int:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(runs)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    return measure
