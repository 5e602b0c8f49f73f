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
from noisescale.families import copy_module, in_mode
from noisescale.seeding import drawn_from
from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.hidden_effects import hidden_effect
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


def moving_buffers(module: nn.Module) -> Tensors:
    """Return the buffers that training may change (running statistics), with their values in the module.

    Any pass may change the buffers of a class of the user, the first or a later one. Layers of this package change only
    running statistics.

    Args:
        module: The module.
    """
    return {
        name: buffer.detach().clone()
        for name, buffer in module.named_buffers()
        if name.rpartition(".")[2] in _STATISTICS or not _is_constant(module, name, buffer)
    }


def _is_constant(module: nn.Module, name: str, buffer: Tensor) -> bool:
    owner = module.get_submodule(name.rpartition(".")[0])
    # A sweep refuses modules that change a sparse buffer.
    return type(owner).__module__.partition(".")[0] == "noisescale" or buffer.layout != torch.strided


def generators_of(module: nn.Module, inputs: Tensor) -> list[str]:
    """Return the generators from which a pass in training mode draws random numbers, forward or backward (dropout).

    Args:
        module: The module.
        inputs: One batch, shape [B, …].

    Returns:
        Some of "torch", "NumPy" and "Python".
    """
    trial = in_mode(copy_module(module), training=True)

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

    def compute(watched: nn.Module) -> None:
        with preserved_process(), torch.enable_grad():
            outputs = in_mode(watched, training=True)(trial.inputs[0].clone())
            loss.per_example(outputs, trial.targets[0]).mean().backward()  # type: ignore[no-untyped-call]

    if (effect := hidden_effect(copy_module(module), compute)) is not None:
        return effect
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
    _, single = LoopKernel(single_module, loss).losses_and_gradients(
        single_trial.parameters, single_trial.buffers, single_trial.inputs, single_trial.targets
    )
    lowered = torch.is_autocast_enabled(trial.inputs.device.type) or torch.backends.cuda.matmul.allow_tf32
    tolerance = _LOWERED_TOLERANCE if lowered else _TOLERANCE
    largest = max(float(gradient.norm()) for gradient in single.values())
    for name, gradient in single.items():
        if not (packed[name] - gradient).norm() <= tolerance * (gradient.norm() + _ROUNDING * largest) + 1e-12:
            return f"the gradient of {name} differs when several runs are computed at once"
    pairs = {**single_trial.parameters, **single_trial.buffers}, {**packed_trial.parameters, **packed_trial.buffers}
    for name, tensor in pairs[0].items():
        if not torch.allclose(pairs[1][name], tensor, rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"{name} differs after a pass when several runs are computed at once"
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
