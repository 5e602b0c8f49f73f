"""A training step as one CUDA graph, because launching the GPU kernels of a short step takes longer than they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Only shorter steps, in seconds, are captured as a graph. A graph holds memory and does not speed up longer steps.
SHORT_SECONDS = 0.01

# Number of steps before the capture. During these steps, libraries choose algorithms and the allocator reserves memory.
_WARM_UP = 3


class GraphedStep:
    """A step that is captured once and replayed with other examples.

    Args:
        body: A function that takes the indices of the examples, computes one step in place and returns losses, shape
            [R]. It must not wait for the device or read numbers on the host.
        index: The indices of any step. Only their shape matters.
        changed: All tensors that `body` changes. Their values are restored after the capture.
    """

    def __init__(self, body: Callable[[Tensor], Tensor], index: Tensor, changed: Sequence[Tensor]) -> None:
        self._index = index.clone()
        before = [tensor.clone() for tensor in changed]
        capture_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        capture_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(capture_stream):
            for _ in range(_WARM_UP):
                body(self._index)
        torch.cuda.current_stream().wait_stream(capture_stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = body(self._index)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)

    def __call__(self, index: Tensor) -> Tensor:
        """Take one step on the examples at `index` and return losses, shape [R]. The next call overwrites them."""
        self._index.copy_(index)
        self._graph.replay()
        return self._losses


def is_short(step: Callable[[], object], changed: Sequence[Tensor]) -> bool:
    """Return whether a step is short enough for a graph. The test runs a few steps and undoes their changes.

    Args:
        step: A function that takes one step.
        changed: All tensors that `step` changes.
    """
    before = [tensor.clone() for tensor in changed]
    for _ in range(_WARM_UP):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    for tensor, value in zip(changed, before, strict=True):
        tensor.copy_(value)
    return seconds < SHORT_SECONDS
