"""Tests whether several runs of a module can be computed at once (packed), and names the operation that prevents it."""

from __future__ import annotations

import linecache
import re
import traceback
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.errors import one_line
from noisescale.families import copy_module, equal_tensors
from noisescale.seeding import drawn_from, preserved_generators
from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.gradient_hooks import HookWatch, hooked_part
from noisescale.training.kernels.kernel import Tensors
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.losses import Loss
from noisescale.user_code import preserved_process

# Largest relative difference between the gradients of packed runs and of single runs. Rounding errors are far below
# this bound, and errors of an operation that mixes runs are far above it. The bound for lower precision is larger,
# because bfloat16 has only eight significant bits.
_TOLERANCE = 1e-3
_LOWERED_TOLERANCE = 0.1
# Rounding errors relative to the largest gradient, as a share of the tolerance. Some gradients consist of them alone: a
# normalization takes the bias before it out, and softmax the bias of attention's keys.
_ROUNDING = 0.01
# The end of the path of torch's code that computes parts of a pass again.
_CHECKPOINT = "torch/utils/checkpoint.py"
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
        """Return the tensors of the first runs, with copies of what a step may change."""
        parameters = {name: tensor[:runs].clone() for name, tensor in self.parameters.items()}
        buffers = {name: tensor[:runs].clone() for name, tensor in self.buffers.items()}
        return Trial(parameters, buffers, self.inputs[:runs].clone(), self.targets[:runs])


def moving_buffers(module: nn.Module, inputs: Tensor) -> Tensors:
    """Return the buffers that training changes (running statistics), with their values in the module.

    These are the buffers that a forward pass in training mode changes. Torch's running statistics are also recognized
    by name, because a first pass may leave their values unchanged. Where a pass of a user's module changes any, it may
    later change the others too.

    Args:
        module: The module.
        inputs: One batch, shape [B, …].
    """
    if not any(True for _ in module.buffers()):
        return {}
    trial = copy_module(module).train()
    with preserved_process(), torch.no_grad(), preserved_generators():
        trial(inputs.clone())
    after = dict(trial.named_buffers())
    buffers = dict(module.named_buffers())
    moving = {
        name
        for name, buffer in buffers.items()
        if name.rpartition(".")[2] in _STATISTICS or not equal_tensors(buffer, after[name])
    }
    if moving:
        moving |= {name for name in buffers if not _is_constant(module.get_submodule(name.rpartition(".")[0]))}
    return {name: buffer.detach().clone() for name, buffer in buffers.items() if name in moving}


def _is_constant(owner: nn.Module) -> bool:
    """Return whether a layer is of this package. Of its buffers, a pass changes only running statistics."""
    return type(owner).__module__.partition(".")[0] == "noisescale"


def generators_of(module: nn.Module, inputs: Tensor) -> list[str]:
    """Return the generators from which a pass in training mode draws random numbers, forward or backward (dropout).

    Args:
        module: The module.
        inputs: One batch, shape [B, …].

    Returns:
        Some of "torch", "NumPy" and "Python".
    """
    trial = copy_module(module).train()

    def step() -> None:
        with torch.enable_grad():
            outputs = trial(inputs.clone())
            if outputs.requires_grad:
                outputs.square().sum().backward()

    with preserved_process():
        if not inputs.is_cuda:
            return drawn_from(step)
        with torch.random.fork_rng(devices=[inputs.device]):
            before = torch.cuda.get_rng_state(inputs.device)
            drawn = drawn_from(step)
            on_gpu = not torch.equal(before, torch.cuda.get_rng_state(inputs.device))
    return list(dict.fromkeys([*(["torch"] * on_gpu), *drawn]))


def reason_against_packing(module: nn.Module, loss: Loss, trial: Trial) -> str | None:
    """Return why `torch.func.vmap` cannot compute the module for several runs at once, or None if it can.

    Args:
        module: The module.
        loss: The loss.
        trial: A step of at least two runs.
    """
    if (hooked := hooked_part(module)) is not None:
        return f"a hook is registered on the gradient of {hooked}"
    # Copies, because a pass may leave tensors in the module that no later pass can use.
    packed_module, single_module = copy_module(module), copy_module(module)
    single_trial = trial.first(2)
    try:
        with warnings.catch_warnings():
            # Torch warns of an operation that it can only compute run after run. This is slower than not packing.
            warnings.filterwarnings("error", message=".*performance drop")
            kernel = GenericKernel(packed_module, loss)
            # Twice, because a module may keep what only the first pass can use.
            for packed_trial in (trial.first(2), trial.first(2)):
                _, packed = kernel.losses_and_gradients(
                    packed_trial.parameters, packed_trial.buffers, packed_trial.inputs, packed_trial.targets
                )
    except Exception as error:  # a user's module may raise anything
        return f"{_place(error, packed_module)}{_operation(error)}"
    packed_trial = trial.first(2)
    kernel.losses_and_gradients(
        packed_trial.parameters, packed_trial.buffers, packed_trial.inputs, packed_trial.targets
    )
    with HookWatch() as watch:
        _, single = LoopKernel(single_module, loss).losses_and_gradients(
            single_trial.parameters, single_trial.buffers, single_trial.inputs, single_trial.targets
        )
    if watch.has_hooks:
        return "a pass registers a hook on the gradient of a tensor"
    lowered = torch.is_autocast_enabled(trial.inputs.device.type) or torch.backends.cuda.matmul.allow_tf32
    tolerance = _LOWERED_TOLERANCE if lowered else _TOLERANCE
    largest = max(float(gradient.norm()) for gradient in single.values())
    for name, gradient in single.items():
        if not (packed[name] - gradient).norm() <= tolerance * (gradient.norm() + _ROUNDING * largest) + 1e-12:
            return f"the gradient of {name} differs when several runs are computed at once"
    for name, buffer in single_trial.buffers.items():
        if not torch.allclose(packed_trial.buffers[name], buffer, rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"the buffer {name} differs when several runs are computed at once"
    return None


def _operation(error: Exception) -> str:
    """Name the operation that torch cannot vectorize, or else return what torch says."""
    text, files = one_line(error), [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    missing = re.search(r"atching rule (?:not implemented )?for\s+(\S+?)[.;]?(?:\s|$)", text)
    operation = missing[1] if missing else ""
    if any(file.endswith(_CHECKPOINT) for file in files):
        operation = "torch.utils.checkpoint"
    elif "Jitted modules" in text:
        operation = "a module in TorchScript"
    # Else the first sentence. Torch goes on with advice for its own developers.
    return f"torch cannot vectorize {operation}" if operation else re.split(r"(?<=\.)\s", text)[0]


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
