"""How many numbers one example leaves behind on its way through a module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, slots=True)
class Footprint:
    """Numbers per example.

    Args:
        kept: The input and the outputs of all modules with parameters of their own, which a backward pass keeps.
        largest: The widest tensor on the way, which bounds what an evaluation holds at once: an attention's scores too.
    """

    kept: int
    largest: int


def footprint(module: nn.Module, inputs: Tensor) -> Footprint:
    """The footprint of a module, by one forward pass.

    Args:
        module: The module.
        inputs: [B, …], a few examples.
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
    """Notes the numbers of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.dim():
            self.numbers = max(self.numbers, found.numel())
        return found
