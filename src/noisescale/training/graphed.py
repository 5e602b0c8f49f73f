"""A step as one CUDA graph: on a GPU the launches of a short step take longer than its arithmetic."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# A step that takes longer than this is arithmetic, not launches, and a graph of it only holds memory.
SHORT_SECONDS = 0.01

# Steps before the capture, so that libraries have chosen their algorithms and the allocator has its blocks.
_WARM_UP = 3


class GraphedStep:
    """One step of some runs, captured once and replayed with other examples.

    Args:
        body: Computes one step on the examples at the index it is given, in place, and returns losses [R]; it must
            neither wait for the device nor depend on numbers of the host.
        index: A first index, for its shape.
        changed: Every tensor that `body` changes; they are put back after the capture.
    """

    def __init__(self, body: Callable[[Tensor], Tensor], index: Tensor, changed: Sequence[Tensor]) -> None:
        self._index = index.clone()
        before = [tensor.clone() for tensor in changed]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                body(self._index)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = body(self._index)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)

    def __call__(self, index: Tensor) -> Tensor:
        """One step on the examples at `index`; the losses [R] are overwritten by the next."""
        self._index.copy_(index)
        self._graph.replay()
        return self._losses


def is_short(step: Callable[[], object], changed: Sequence[Tensor]) -> bool:
    """Whether a step is short enough for a graph to pay; it is computed a few times, and its changes are put back."""
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
