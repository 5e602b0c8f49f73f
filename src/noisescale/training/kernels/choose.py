"""Chooses the kernel of a pack: `MLPKernel` for plain MLPs, or the kernel with the fastest trial steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import copy_module, mlp_layers
from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.kernel import Kernel
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.kernels.mlp import MLPKernel
from noisescale.training.kernels.packable import Trial, generators_of, reason_against_packing
from noisescale.training.losses import Loss

MakeKernel = Callable[[nn.Module, Loss], Kernel]

# Kernels for any module. A new kernel is one more row.
KERNELS: dict[str, MakeKernel] = {
    "vmap": GenericKernel,
    "unfolded": lambda module, loss: GenericKernel(module, loss, unfolded=True),
    "loop": LoopKernel,
}
# Smallest relative gain in the time per run that justifies more runs at once. Repeated measurements differ by less.
_MIN_GAIN = 0.05
# Number of timed steps after a warm-up step. The fastest step counts, because disturbances only slow a step down.
_REPETITIONS = 3


@dataclass(frozen=True)
class Choice:
    """A kernel and the number of runs that it computes at once.

    Args:
        kernel: The kernel.
        together: Largest number of runs that train together. A larger pack trains in parts, one after another.
        note: Reason why the runs are computed one at a time, for the user; empty otherwise.
        needs_seeds: Whether the module draws random numbers, so that the kernel needs a seed for each run and step.
        measured: Whether a measurement chose the kernel. Another measurement may choose differently.
    """

    kernel: Kernel
    together: int
    note: str = ""
    needs_seeds: bool = False
    measured: bool = False

    @property
    def text(self) -> str:
        """The choice as text, e.g. "vmap 8". With this text, `choose_kernel` makes the same choice again."""
        return f"{self.kernel.name} {self.together}"


def choose_kernel(
    module: nn.Module, loss: Loss, trial: Trial, choice: str = "auto", together: int = 1, most: int | None = None
) -> Choice:
    """Choose `MLPKernel` for a plain MLP, and the kernel with the fastest trial steps for any other module.

    The number of runs at once starts at the number that fits into the cache. It doubles as long as the time per run
    falls: in a small network, the overhead of a call costs more than cache misses.

    Args:
        module: The module.
        loss: The loss.
        trial: The tensors of one step of all runs of the pack.
        choice: "auto", a name in `KERNELS` or "explicit" (`MLPKernel`), or a name and a number: "vmap 8" means the
            kernel "vmap" with at most 8 runs at once.
        together: Number of runs that fit into the cache together.
        most: Largest number of runs to try at once; None for all.

    Returns:
        The kernel and the number of runs at once.

    Raises:
        BadInput: The choice names no known kernel.
    """
    name, _, number = choice.partition(" ")
    explicit = name in ("auto", MLPKernel.name)
    layers = mlp_layers(module) if explicit else None
    known = name in ("auto", *KERNELS) or layers is not None
    if not known or not (number.isdecimal() or choice == name):
        raise BadInput("kernel", f"auto, {', '.join(KERNELS)}, or for a plain MLP {MLPKernel.name}", repr(choice))
    together = int(number) if number else together
    if layers is not None:
        return Choice(MLPKernel(layers, loss), together)
    if generators := generators_of(module, trial.inputs[0]):
        names = " and ".join(f"{name}'s generator" for name in generators)
        note = _ONE_AT_A_TIME.format(f"it draws random numbers (dropout) from {names}")
        return Choice(LoopKernel(module, loss, of_torch_only=generators == ["torch"]), together, note, needs_seeds=True)
    reason = reason_against_packing(module, loss, trial) if name != "loop" else None
    if reason is not None:
        return Choice(LoopKernel(module, loss), together, _ONE_AT_A_TIME.format(reason))
    if name != "auto":
        return Choice(KERNELS[name](module, loss), together)
    convolves = any(isinstance(part, nn.Conv2d) for part in module.modules())
    kernels = [make(copy_module(module), loss) for name, make in KERNELS.items() if convolves or name != "unfolded"]
    timings = [_time(kernel, trial, together, most or len(trial.inputs)) for kernel in kernels]
    fastest = min(timings, key=lambda timing: timing.seconds)
    return Choice(fastest.kernel, fastest.together, measured=True)


_ONE_AT_A_TIME = "the model's runs are trained one at a time, because they cannot be packed: {}"


@dataclass(frozen=True)
class _Timing:
    kernel: Kernel
    together: int  # runs at once
    seconds: float  # per step and run


def _time(kernel: Kernel, trial: Trial, together: int, most: int) -> _Timing:
    """Find the number of runs at once at which a kernel takes the least time per run, and return this time."""
    runs, size = min(most, len(trial.inputs)), together
    run_seconds = _step_seconds(kernel, trial.first(size)) / size
    # `LoopKernel` always computes one run at a time.
    while size < runs and not isinstance(kernel, LoopKernel):
        larger = min(2 * size, runs)
        seconds = _step_seconds(kernel, trial.first(larger)) / larger
        if seconds > (1 - _MIN_GAIN) * run_seconds:
            break
        run_seconds, size = seconds, larger
    return _Timing(kernel, size, run_seconds)


def _step_seconds(kernel: Kernel, trial: Trial) -> float:
    """Return the time of the fastest of a few steps, in seconds."""
    times = []
    for _ in range(_REPETITIONS + 1):
        fresh = trial.first(len(trial.inputs))
        _synchronize(trial)
        began = time.perf_counter()
        with torch.no_grad():
            kernel.losses_and_gradients(fresh.parameters, fresh.buffers, fresh.inputs, fresh.targets, False)
        _synchronize(trial)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _synchronize(trial: Trial) -> None:
    if trial.inputs.is_cuda:
        torch.cuda.synchronize(trial.inputs.device)
