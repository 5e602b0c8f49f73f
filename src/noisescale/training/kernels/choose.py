"""Which kernel computes a pack: a rule for MLPs, a short measurement for everything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.kernels.mlp import MLPKernel, mlp_layers
from noisescale.training.kernels.packable import Trial, draws_numbers, reason_against_packing
from noisescale.training.kernels.seam import Kernel
from noisescale.training.losses import Loss

MakeKernel = Callable[[nn.Module, Loss], Kernel]

# A row is a way to compute many runs of any module.
KERNELS: dict[str, MakeKernel] = {
    "vmap": GenericKernel,
    "unfolded": lambda module, loss: GenericKernel(module, loss, unfolded=True),
    "loop": LoopKernel,
}
# Repetitions of the measurement after one that warms up; the fastest counts, since what disturbs only slows down.
_REPETITIONS = 3


@dataclass(frozen=True)
class Choice:
    """A kernel and how it came about.

    Arguments:
        note: what a user should know: why the runs are computed one at a time; empty otherwise.
        draws: whether the module draws random numbers, so that the kernel needs a number for each run and step.
        measured: whether a measurement chose it, which may choose otherwise another time.
    """

    kernel: Kernel
    note: str = ""
    draws: bool = False
    measured: bool = False


def choose_kernel(module: nn.Module, loss: Loss, trial: Trial, kind: str = "auto") -> Choice:
    """The explicit kernel where the module is a plain MLP, else the fastest of the others on a trial step.

    Arguments:
        trial: as many runs as train together.
        kind: "auto", or a name in `KERNELS` (kernels must agree; tests compare them).
    Raises:
        BadInput: an unknown kind.
    """
    if kind not in ("auto", *KERNELS):
        raise BadInput("kernel", f"auto, {', '.join(KERNELS)}", repr(kind))
    layers = mlp_layers(module) if kind == "auto" else None
    if layers is not None:
        return Choice(MLPKernel(layers, loss))
    if draws_numbers(module, trial.inputs[0]):
        return Choice(LoopKernel(module, loss), _ONE_AT_A_TIME.format("it draws random numbers (dropout)"), draws=True)
    reason = reason_against_packing(module, loss, trial) if kind != "loop" else None
    if reason is not None:
        return Choice(LoopKernel(module, loss), _ONE_AT_A_TIME.format(reason))
    if kind != "auto":
        return Choice(KERNELS[kind](module, loss))
    convolves = any(isinstance(part, nn.Conv2d) for part in module.modules())
    names = [name for name in KERNELS if convolves or name != "unfolded"]
    kernels = [KERNELS[name](module, loss) for name in names]
    return Choice(min(kernels, key=lambda kernel: _seconds(kernel, trial)), measured=True)


_ONE_AT_A_TIME = "the model's runs are trained one at a time, because they cannot be packed: {}"


def _seconds(kernel: Kernel, trial: Trial) -> float:
    """The time of one step, without what disturbed it."""
    times = []
    for _ in range(_REPETITIONS + 1):
        own = trial.first(len(trial.inputs))
        _synchronize(trial)
        began = time.perf_counter()
        with torch.no_grad():
            kernel.losses_and_gradients(own.parameters, own.buffers, own.inputs, own.targets, False)
        _synchronize(trial)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _synchronize(trial: Trial) -> None:
    if trial.inputs.is_cuda:
        torch.cuda.synchronize(trial.inputs.device)
