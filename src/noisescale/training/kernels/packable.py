"""Whether a module can be packed: a trial, and a message that names the operation that cannot."""

from __future__ import annotations

import copy
import linecache
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.kernels.seam import Tensors
from noisescale.training.losses import Loss

# Packed and single gradients differ by rounding, which training in float32 at a large rate may magnify a little; an
# operation that mixes runs is off by its whole size.
_AGREEMENT = 1e-3
# What torch's normalizations call the buffers that a training pass moves.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_LOWERED_AGREEMENT = 0.1  # bfloat16 has eight bits


@dataclass(frozen=True)
class Trial:
    """A few runs' worth of a step, to try kernels on.

    Args:
        parameters: [R, …] each.
        buffers: [R, …] each.
        inputs: [R, B, …].
        targets: [R, B, K].
    """

    parameters: Tensors
    buffers: Tensors
    inputs: Tensor
    targets: Tensor

    def first(self, runs: int) -> Trial:
        """The first runs of it, with buffers of its own."""
        parameters = {name: tensor[:runs] for name, tensor in self.parameters.items()}
        buffers = {name: tensor[:runs].clone() for name, tensor in self.buffers.items()}
        return Trial(parameters, buffers, self.inputs[:runs], self.targets[:runs])


def moving_buffers(module: nn.Module, inputs: Tensor) -> Tensors:
    """The buffers that training changes (running statistics), as the module starts them.

    Statistics are recognised by their name too: a first pass may leave them where they start.

    Args:
        module: The module.
        inputs: [B, …], one batch.
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
    """Whether a training pass draws random numbers (dropout)."""
    trial = copy.deepcopy(module).train()
    on_gpu = [inputs.device] if inputs.is_cuda else []

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in on_gpu)]

    with torch.no_grad(), torch.random.fork_rng(devices=on_gpu):
        before = states()
        trial(inputs)
        return not all(torch.equal(*pair) for pair in zip(before, states(), strict=True))


def reason_against_packing(module: nn.Module, loss: Loss, trial: Trial) -> str | None:
    """Why `torch.func.vmap` cannot compute this module for several runs at once; None where it can.

    Args:
        module: The module.
        loss: The loss.
        trial: Two runs are enough.
    """
    own, other = trial.first(2), trial.first(2)
    try:
        with warnings.catch_warnings():
            # Such an operation would be computed run after run inside the packed pass: slower than no packing at all.
            warnings.filterwarnings("error", message=".*performance drop")
            _, packed = GenericKernel(module, loss).losses_and_gradients(
                own.parameters, own.buffers, own.inputs, own.targets
            )
    except Exception as error:  # a user's module may raise anything
        return f"{_place(error, module)}{_first_line(error)}"
    _, single = LoopKernel(module, loss).losses_and_gradients(
        other.parameters, other.buffers, other.inputs, other.targets
    )
    lowered = torch.is_autocast_enabled(own.inputs.device.type) or torch.backends.cuda.matmul.allow_tf32
    within = _LOWERED_AGREEMENT if lowered else _AGREEMENT
    for name, gradient in single.items():
        if not (packed[name] - gradient).norm() <= within * gradient.norm() + 1e-12:
            return f"the gradient of {name} differs when several runs are computed at once"
    return None


def _place(error: Exception, module: nn.Module) -> str:
    """The innermost module whose forward pass raised, and the line of code."""
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
