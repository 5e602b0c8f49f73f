"""Chooses the kernel of a pack: `MLPKernel` for plain MLPs, or the kernel with the fastest trial steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import Transformer, copy_module, mlp_layers, transformer_of
from noisescale.training.kernels.generic import GenericKernel
from noisescale.training.kernels.kernel import Kernel
from noisescale.training.kernels.loop import LoopKernel
from noisescale.training.kernels.mlp import MLPKernel
from noisescale.training.kernels.packable import Packing, Trial, generators_of, try_packing
from noisescale.training.kernels.transformer import TransformerKernel
from noisescale.training.objectives import Objective, UserObjective

MakeKernel = Callable[[nn.Module, Objective], Kernel]

# Kernels for any module. A new kernel is one more row.
KERNELS: dict[str, MakeKernel] = {
    "vmap": GenericKernel,
    "unfolded": lambda module, objective: GenericKernel(module, objective, unfolded=True),
    "loop": LoopKernel,
    "batched": lambda module, objective: TransformerKernel(_transformer(module), objective),
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
    module: nn.Module,
    objective: Objective,
    trial: Trial,
    choice: str = "auto",
    together: int = 1,
    most: int | None = None,
) -> Choice:
    """Choose `MLPKernel` for a plain MLP, and the kernel with the fastest trial steps for any other module.

    The number of runs at once starts at the number that fits into the cache. It doubles as long as the time per run
    falls: in a small network, the overhead of a call costs more than cache misses.

    Args:
        module: The module.
        objective: What each run minimizes.
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
    # Only the other kernels can train without what vmap refuses in a loss of the user.
    explicit = explicit and not isinstance(objective, UserObjective)
    layers = mlp_layers(module) if explicit else None
    transformer = transformer_of(module)
    kernels = [kind for kind in KERNELS if kind != "batched" or transformer is not None]
    known = name in ("auto", *kernels) or layers is not None
    if not known or not (number.isdecimal() or choice == name):
        raise BadInput("kernel", f"auto, {', '.join(kernels)}, or for a plain MLP {MLPKernel.name}", repr(choice))
    together = int(number) if number else together
    if layers is not None:
        return Choice(MLPKernel(layers, objective), together)
    generators = generators_of(module, trial.inputs[0])
    if set(generators) - {"torch"}:
        names = " and ".join(f"{name}'s generator" for name in generators)
        note = _ONE_AT_A_TIME.format(f"it draws random numbers from {names}")
        return Choice(LoopKernel(module, objective, of_torch_only=False), together, note, needs_seeds=True)
    trial = replace(trial, seeds=range(len(trial.inputs)) if generators else None)
    draws = bool(generators)
    packing = try_packing(module, objective, trial) if name not in ("loop", "batched") else Packing(None)
    if packing.reason is not None:
        note = _ONE_AT_A_TIME.format(packing.reason)
        return Choice(LoopKernel(module, objective), together, note, needs_seeds=draws)
    if name != "auto":
        return Choice(KERNELS[name](module, objective), together, needs_seeds=draws)
    convolves = any(isinstance(part, nn.Conv2d) for part in module.modules())
    left_out = {"unfolded"} if not convolves else set[str]()
    if packing.only:
        left_out.add("loop")
    if torch.is_autocast_enabled(trial.inputs.device.type):
        left_out.add("batched")
    candidates = [KERNELS[kind](copy_module(module), objective) for kind in kernels if kind not in left_out]
    timings = [_time(kernel, trial, together, most or len(trial.inputs)) for kernel in candidates]
    fastest = min(timings, key=lambda timing: timing.seconds)
    return Choice(fastest.kernel, fastest.together, needs_seeds=draws, measured=True)


def _transformer(module: nn.Module) -> Transformer:
    transformer = transformer_of(module)
    assert transformer is not None
    return transformer


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
            kernel.losses_and_gradients(*fresh.tensors, False, fresh.seeds)
        _synchronize(trial)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _synchronize(trial: Trial) -> None:
    if trial.inputs.is_cuda:
        torch.cuda.synchronize(trial.inputs.device)
