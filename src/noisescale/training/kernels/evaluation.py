"""Outputs in evaluation mode, one run after another. One run already keeps the machine busy."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale.training.kernels.kernel import Tensors


class RunByRunEvaluation:
    """Evaluates any module one run after another, so that the module may use any operation of torch.

    Args:
        module: The module. Its forward pass and its constant buffers are used, its parameters are not.
    """

    def __init__(self, module: nn.Module) -> None:
        self._evaluated = copy.deepcopy(module).eval()

    def outputs(self, parameters: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
        """Compute outputs, shape [R, M, K], of all runs on the same inputs, shape [M, …]."""
        runs = len(next(iter(parameters.values())))
        with torch.no_grad():
            return torch.stack([self._output(parameters, buffers, inputs, run) for run in range(runs)])

    def _output(self, parameters: Tensors, buffers: Tensors, inputs: Tensor, run: int) -> Tensor:
        state = tuple({name: tensor[run] for name, tensor in tensors.items()} for tensors in (parameters, buffers))
        return functional_call(self._evaluated, state, (inputs,))  # type: ignore[no-any-return]
