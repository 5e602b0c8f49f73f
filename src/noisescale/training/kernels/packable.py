"""Tests whether several runs of a module can be computed at once (packed), and names the operation that prevents it."""

from __future__ import annotations

import linecache
import re
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisescale.errors import one_line
from noisescale.families import copy_module, in_mode
from noisescale.named_inputs import Inputs
from noisescale.seeding import drawn_from
from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.hidden_effects import hidden_effect
from noisescale.training.kernels.kernel import Kernel, Tensors
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.objectives import Objective
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
        targets: Targets of each batch, shape [R, B, …].
        seeds: Seed of each run for random operations of the pass; None without such operations.
    """

    parameters: Tensors
    buffers: Tensors
    inputs: Inputs
    targets: Tensor
    seeds: Sequence[int] | None = None

    @property
    def tensors(self) -> tuple[Tensors, Tensors, Inputs, Tensor]:
        """The arguments of a kernel."""
        return self.parameters, self.buffers, self.inputs, self.targets

    def first(self, runs: int) -> Trial:
        """Return the tensors of the first runs, with copies of what a step may change."""
        return self.part(slice(runs))

    def part(self, runs: slice) -> Trial:
        """Return the tensors of some runs, with copies of what a step may change."""
        parameters = {name: tensor[runs].clone() for name, tensor in self.parameters.items()}
        buffers = {name: tensor[runs].clone() for name, tensor in self.buffers.items()}
        seeds = None if self.seeds is None else self.seeds[runs]
        return Trial(parameters, buffers, self.inputs[runs].clone(), self.targets[runs], seeds)


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


def generators_of(module: nn.Module, inputs: Inputs) -> list[str]:
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


@dataclass(frozen=True)
class Packing:
    """Whether several runs of a module can be computed at once.

    Args:
        reason: The reason why they cannot; None if they can.
        only: Whether a run alone must be computed in the same way, as a pack of one run. Torch draws the random numbers
            of a transposed tensor in the order of its memory, which may be another one outside `vmap`.
    """

    reason: str | None
    only: bool = False


def try_packing(module: nn.Module, objective: Objective, trial: Trial) -> Packing:
    """Find out whether `torch.func.vmap` can compute a module for several runs at once.

    Args:
        module: The module.
        objective: What each run minimizes.
        trial: A step of at least two runs.
    """

    def compute(watched: nn.Module) -> None:
        with preserved_process(), torch.enable_grad():
            outputs = in_mode(watched, training=True)(trial.inputs[0].clone())
            objective.of_run(outputs, trial.targets[0]).backward()  # type: ignore[no-untyped-call]

    if (effect := hidden_effect(copy_module(module), compute)) is not None:
        return Packing(effect)
    # Copies, because a pass may leave tensors in the module that no later pass can use.
    packed_module, single_module = copy_module(module), copy_module(module)
    try:
        with warnings.catch_warnings():
            # Torch warns of an operation that it can only compute run after run. This is slower than not packing.
            warnings.filterwarnings("error", message=".*performance drop")
            kernel = GenericKernel(packed_module, objective)
            # Twice, because a module may keep what only the first pass can use.
            for packed_trial in (trial.first(2), trial.first(2)):
                kernel.losses_and_gradients(*packed_trial.tensors, seeds=packed_trial.seeds)
    except Exception as error:  # a user's module may raise anything
        return Packing(f"{_place(error, packed_module)}{_operation(error)}")
    loop = LoopKernel(single_module, objective)
    packed, single = _computed(kernel, trial.first(2)), _computed(loop, trial.first(2))
    difference = _difference(packed, single)
    if difference is None or trial.seeds is None:
        return Packing(difference)
    parts = [_computed(kernel, trial.part(slice(run, run + 1))) for run in range(min(2, len(trial.inputs)))]
    alone = [{name: torch.cat([part[kind][name] for part in parts]) for name in parts[0][kind]} for kind in (0, 1)]
    only_by_order = _difference(packed, (alone[0], alone[1])) is None
    return Packing(None, only=True) if only_by_order else Packing(difference)


def _computed(kernel: Kernel, trial: Trial) -> tuple[Tensors, Tensors]:
    """Return the gradients of a step, and the parameters and buffers after it."""
    _, gradients = kernel.losses_and_gradients(*trial.tensors, seeds=trial.seeds)
    return gradients, {**trial.parameters, **trial.buffers}


def _difference(packed: tuple[Tensors, Tensors], single: tuple[Tensors, Tensors]) -> str | None:
    """Describe how two computations of the same step differ. None if they agree."""
    gradients, inputs = single[0], next(iter(single[0].values()))
    lowered = torch.is_autocast_enabled(inputs.device.type) or torch.backends.cuda.matmul.allow_tf32
    tolerance = _LOWERED_TOLERANCE if lowered else _TOLERANCE
    largest = max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        if not (packed[0][name] - gradient).norm() <= tolerance * (gradient.norm() + _ROUNDING * largest) + 1e-12:
            return f"the gradient of {name} differs when several runs are computed at once"
    for name, tensor in single[1].items():
        if not torch.allclose(packed[1][name], tensor, rtol=tolerance, atol=tolerance, equal_nan=True):
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
