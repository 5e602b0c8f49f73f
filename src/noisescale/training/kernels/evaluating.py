"""Outputs of a pack in evaluation mode, run after run: an evaluation fills the machine with one run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale.training.kernels.seam import Tensors


class Evaluating:
    """The evaluation half of a kernel for any module; nothing is packed, so every operation that torch has will do.

    Args:
        module: Supplies the forward pass and the buffers that never change; its own parameters are not used.
    """

    def __init__(self, module: nn.Module) -> None:
        self._evaluating = copy.deepcopy(module).eval()

    def outputs(self, parameters: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
        """Outputs [R, M, K] of every run on the same inputs [M, …]."""
        runs = len(next(iter(parameters.values())))
        with torch.no_grad():
            return torch.stack([self._output(parameters, buffers, inputs, run) for run in range(runs)])

    def _output(self, parameters: Tensors, buffers: Tensors, inputs: Tensor, run: int) -> Tensor:
        own, moving = ({name: tensor[run] for name, tensor in tensors.items()} for tensors in (parameters, buffers))
        return functional_call(self._evaluating, (own, moving), (inputs,))  # type: ignore[no-any-return]
