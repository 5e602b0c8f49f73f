"""How many numbers one example leaves behind on its way through a module."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Footprint:
    """Numbers per example.

    Arguments:
        kept: the input and the outputs of all modules with parameters of their own, which a backward pass keeps.
        largest: the widest of those outputs, which bounds what an evaluation holds at once.
    """

    kept: int
    largest: int


def footprint(module: nn.Module, inputs: Tensor) -> Footprint:
    """The footprint of a module, by one forward pass.

    Arguments:
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
    with torch.no_grad():
        trial(inputs)
    return Footprint(inputs[0].numel() + sum(kept), max(kept, default=1))
