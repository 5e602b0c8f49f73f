"""Which kernel computes a pack: a rule for MLPs, a short measurement for everything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import mlp_layers
from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.kernels.mlp import MLPKernel
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
# More runs at once must make a run faster by this much: less is within what one measurement and the next differ by.
_GAIN = 0.05
# Repetitions of the measurement after one that warms up; the fastest counts, since what disturbs only slows down.
_REPETITIONS = 3


@dataclass(frozen=True)
class Choice:
    """A kernel, how many runs it computes at once, and how it came about.

    Args:
        together: Runs that train together at most; a pack of more trains part after part.
        note: What a user should know: why the runs are computed one at a time; empty otherwise.
        draws: Whether the module draws random numbers, so that the kernel needs a number for each run and step.
        measured: Whether a measurement chose it, which may choose otherwise another time.
    """

    kernel: Kernel
    together: int
    note: str = ""
    draws: bool = False
    measured: bool = False

    @property
    def name(self) -> str:
        """What `choose_kernel` takes as `kind` to make the same choice again: "vmap 8"."""
        return f"{self.kernel.name} {self.together}"


def choose_kernel(
    module: nn.Module, loss: Loss, trial: Trial, kind: str = "auto", together: int = 1, most: int | None = None
) -> Choice:
    """The explicit kernel where the module is a plain MLP, else the fastest of the others on trial steps.

    The others are measured with as many runs at once as fit into the cache, and with twice and four times as many for
    as long as that is faster: what a call costs weighs more in a small network than what misses the cache.

    Args:
        module: The module.
        loss: The loss.
        trial: All runs of the pack.
        kind: "auto", a name in `KERNELS` (kernels must agree; tests compare them), or a name and a number, as in "vmap
            8": that kernel with at most so many runs at once.
        together: Runs that fit into the cache together.
        most: Runs that may be tried at once (default: all).

    Raises:
        BadInput: An unknown kind.
    """
    name, _, number = kind.partition(" ")
    explicit = name in ("auto", MLPKernel.name)
    layers = mlp_layers(module) if explicit else None
    known = name in ("auto", *KERNELS) or layers is not None
    if not known or not (number.isdecimal() or kind == name):
        raise BadInput("kernel", f"auto, {', '.join(KERNELS)}, or for a plain MLP {MLPKernel.name}", repr(kind))
    together = int(number) if number else together
    if layers is not None:
        return Choice(MLPKernel(layers, loss), together)
    if draws_numbers(module, trial.inputs[0]):
        note = _ONE_AT_A_TIME.format("it draws random numbers (dropout)")
        return Choice(LoopKernel(module, loss), together, note, draws=True)
    reason = reason_against_packing(module, loss, trial) if name != "loop" else None
    if reason is not None:
        return Choice(LoopKernel(module, loss), together, _ONE_AT_A_TIME.format(reason))
    if name != "auto":
        return Choice(KERNELS[name](module, loss), together)
    convolves = any(isinstance(part, nn.Conv2d) for part in module.modules())
    kernels = [make(module, loss) for name, make in KERNELS.items() if convolves or name != "unfolded"]
    found = [_fastest(kernel, trial, together, most or len(trial.inputs)) for kernel in kernels]
    _, size, kernel = min(found, key=lambda own: own[0])
    return Choice(kernel, size, measured=True)


_ONE_AT_A_TIME = "the model's runs are trained one at a time, because they cannot be packed: {}"


def _fastest(kernel: Kernel, trial: Trial, together: int, most: int) -> tuple[float, int, Kernel]:
    """Seconds of a run's step, the number of runs at once at which it takes them, and the kernel."""
    runs, size = min(most, len(trial.inputs)), together
    best = _seconds(kernel, trial.first(size)) / size
    # Run after run there is nothing to share.
    while size < runs and not isinstance(kernel, LoopKernel):
        larger = min(2 * size, runs)
        seconds = _seconds(kernel, trial.first(larger)) / larger
        if seconds > (1 - _GAIN) * best:
            break
        best, size = seconds, larger
    return best, size, kernel


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
