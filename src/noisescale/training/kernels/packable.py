"""Tests whether several runs of a module can be computed at once (packed), and names the operation that prevents it."""

from __future__ import annotations

import copy
import linecache
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.kernel import Tensors
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.losses import Loss

# Largest relative difference between the gradients of packed runs and of single runs. Rounding errors are far below
# this bound, and errors of an operation that mixes runs are far above it. The bound for lower precision is larger,
# because bfloat16 has only eight significant bits.
_TOLERANCE = 1e-3
_LOWERED_TOLERANCE = 0.1
# Torch's names for the running statistics of its normalizations.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Trial:
    """The tensors of one step of R runs, on which kernels are tried.

    Args:
        parameters: Parameters by name, shape [R, …] each.
        buffers: Buffers by name, shape [R, …] each.
        inputs: Batch of each run, shape [R, B, …].
        targets: Targets of each batch, shape [R, B, K].
    """

    parameters: Tensors
    buffers: Tensors
    inputs: Tensor
    targets: Tensor

    def first(self, runs: int) -> Trial:
        """Return the tensors of the first runs, with copies of the buffers."""
        parameters = {name: tensor[:runs] for name, tensor in self.parameters.items()}
        buffers = {name: tensor[:runs].clone() for name, tensor in self.buffers.items()}
        return Trial(parameters, buffers, self.inputs[:runs], self.targets[:runs])


def moving_buffers(module: nn.Module, inputs: Tensor) -> Tensors:
    """Return the buffers that training changes (running statistics), with their values in the module.

    These are the buffers that a forward pass in training mode changes. Torch's running statistics are also recognized
    by name, because a first pass may leave their values unchanged.

    Args:
        module: The module.
        inputs: One batch, shape [B, …].
    """
    if not any(True for _ in module.buffers()):
        return {}
    trial = copy.deepcopy(module).train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        trial(inputs)
    after = dict(trial.named_buffers())
    return {
        name: buffer.detach().clone()
        for name, buffer in module.named_buffers()
        if name.rpartition(".")[2] in _STATISTICS or not torch.equal(buffer, after[name])
    }


def draws_numbers(module: nn.Module, inputs: Tensor) -> bool:
    """Return whether a forward pass in training mode draws random numbers (dropout).

    Args:
        module: The module.
        inputs: One batch, shape [B, …].
    """
    trial = copy.deepcopy(module).train()
    on_gpu = [inputs.device] if inputs.is_cuda else []

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in on_gpu)]

    with torch.no_grad(), torch.random.fork_rng(devices=on_gpu):
        before = states()
        trial(inputs)
        return not all(torch.equal(*pair) for pair in zip(before, states(), strict=True))


def reason_against_packing(module: nn.Module, loss: Loss, trial: Trial) -> str | None:
    """Return why `torch.func.vmap` cannot compute the module for several runs at once, or None if it can.

    Args:
        module: The module.
        loss: The loss.
        trial: A step of at least two runs.
    """
    packed_trial, single_trial = trial.first(2), trial.first(2)
    try:
        with warnings.catch_warnings():
            # Torch warns of an operation that it can only compute run after run. This is slower than not packing.
            warnings.filterwarnings("error", message=".*performance drop")
            _, packed = GenericKernel(module, loss).losses_and_gradients(
                packed_trial.parameters, packed_trial.buffers, packed_trial.inputs, packed_trial.targets
            )
    except Exception as error:  # a user's module may raise anything
        return f"{_place(error, module)}{_first_line(error)}"
    _, single = LoopKernel(module, loss).losses_and_gradients(
        single_trial.parameters, single_trial.buffers, single_trial.inputs, single_trial.targets
    )
    lowered = torch.is_autocast_enabled(trial.inputs.device.type) or torch.backends.cuda.matmul.allow_tf32
    tolerance = _LOWERED_TOLERANCE if lowered else _TOLERANCE
    for name, gradient in single.items():
        if not (packed[name] - gradient).norm() <= tolerance * gradient.norm() + 1e-12:
            return f"the gradient of {name} differs when several runs are computed at once"
    return None


def _place(error: Exception, module: nn.Module) -> str:
    """Describe where an error was raised: the innermost module, and the line of code in its forward pass."""
    names = {id(part): name for name, part in module.named_modules()}
    place, frame = "", error.__traceback__
    while frame is not None:
        owner = frame.tb_frame.f_locals.get("self")
        if id(owner) in names:
            line = linecache.getline(frame.tb_frame.f_code.co_filename, frame.tb_lineno).strip()
            label = f" {names[id(owner)]!r}" if names[id(owner)] else ""
            place = f"{type(owner).__name__}{label} at `{line}`: "
        frame = frame.tb_next
    return place


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
