"""Outputs in evaluation mode, one run after another. One run already keeps the machine busy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisescale.families import copy_module, in_mode
from noisescale.named_inputs import Inputs
from noisescale.training.kernels.buffer_slots import BufferSlots
from noisescale.training.kernels.kernel import Tensors
from noisescale.user_code import ProcessState, runs_user_code


class RunByRunEvaluation:
    """Evaluates any module one run after another, so that the module may use any operation of torch.

    Args:
        module: The module. Its forward pass and its constant buffers are used, its parameters are not.
    """

    def __init__(self, module: nn.Module) -> None:
        self._evaluated = in_mode(copy_module(module), training=False)
        self._runs_user_code = runs_user_code(module)
        # Whether the first training pass changed settings of the process. None before it.
        self._changes_settings: bool | None = None if self._runs_user_code else False
        self._evaluated_parameters = dict(self._evaluated.named_parameters())
        self._evaluated_buffers = BufferSlots(self._evaluated)

    def outputs(self, parameters: Tensors, buffers: Tensors, inputs: Inputs) -> Tensor:
        """Compute outputs, shape [R, M, K], of all runs on the same inputs, shape [M, …]."""
        runs = len(next(iter(parameters.values())))
        outputs = []
        with torch.no_grad():
            state = ProcessState() if self._runs_user_code else None
            for run in range(runs):
                outputs.append(self._output(parameters, buffers, inputs, run))
                if state is not None:
                    state.restore()
            return torch.stack(outputs)

    def _output(self, parameters: Tensors, buffers: Tensors, inputs: Inputs, run: int) -> Tensor:
        if self._runs_user_code:
            # A module may compute something from its weights when it goes into evaluation mode, and undo it before.
            in_mode(self._evaluated, training=True)
        # The module takes views of the pack's tensors, which serves also a scripted module.
        for name, tensor in parameters.items():
            values = tensor[run].detach()
            self._evaluated_parameters[name].data = values.clone() if self._runs_user_code else values
        # Copies, because a module may change its weights or go on counting in evaluation mode.
        self._evaluated_buffers.set_copies(buffers, run)
        if self._runs_user_code:
            in_mode(self._evaluated, training=False)
        # A copy, because a module may change its inputs in place, and all runs share them.
        return self._evaluated(inputs.clone())  # type: ignore[no-any-return]
