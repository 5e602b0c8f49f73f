"""Time, memory and error of per-example gradients from this package, BackPACK and Opacus."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

LOSS = nn.CrossEntropyLoss()
EXAMPLES = 128


def plain_convnet(width: int) -> nn.Module:
    """Build a convnet from modules that every tool supports."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(width * 49, 10),
    )  # fmt: skip


def gradient_tools(width: int, inputs: Tensor, targets: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the tools that compute the gradients of all examples, shape [N, P], by name.

    Args:
        width: Channels of the convnet.
        inputs: Images, shape [N, 1, 14, 14].
        targets: Labels, shape [N].
    """

    def noisescale() -> Tensor:
        from noisescale.measure.problem import Problem

        problem = Problem(plain_convnet(width), LOSS, (inputs, targets), chunk=len(inputs))
        return torch.cat(list(problem.per_example_gradients()))

    def backpack_() -> Tensor:
        from backpack import backpack, extend
        from backpack.extensions import BatchGrad

        model, loss = extend(plain_convnet(width)), extend(nn.CrossEntropyLoss(reduction="sum"))
        with backpack(BatchGrad()):
            loss(model(inputs), targets).backward()
        return torch.cat([parameter.grad_batch.flatten(1) for parameter in model.parameters()], 1)

    def opacus_() -> Tensor:
        from opacus.grad_sample import GradSampleModule

        model = GradSampleModule(plain_convnet(width), loss_reduction="sum")
        nn.functional.cross_entropy(model(inputs), targets, reduction="sum").backward()
        return torch.cat([parameter.grad_sample.flatten(1) for parameter in model.parameters()], 1)

    return {"noisescale": noisescale, "BackPACK": backpack_, "Opacus": opacus_}


def gradient_table(rounds: int) -> list[str]:
    """Tabulate the median time, the memory and the largest error for two widths.

    Args:
        rounds: Number of timed runs of each tool.
    """
    torch.manual_seed(1)
    inputs, targets = torch.randn(EXAMPLES, 1, 14, 14), torch.randint(10, (EXAMPLES,))
    lines = ["| tool | width | seconds | memory, MiB | largest error |", "|---|---|---|---|---|"]
    for width in (8, 32):
        model = plain_convnet(width)
        truth = torch.stack([_gradient(model, inputs[k : k + 1], targets[k : k + 1]) for k in range(EXAMPLES)])
        for name, tool in gradient_tools(width, inputs, targets).items():
            error = float((tool() - truth).abs().max() / truth.abs().max())
            seconds = statistics.median(_seconds(tool) for _ in range(rounds))
            lines.append(f"| {name} | {width} | {seconds:.3f} | {_peak_memory(tool):.0f} | {error:.0e} |")
    return lines


def _gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    gradients = torch.autograd.grad(LOSS(model(inputs), targets), list(model.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _peak_memory(work: Callable[[], object]) -> float:
    """Return the peak memory of tensors in MiB, from torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    current = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            current += event.nbytes()
            peak = max(peak, current)
    return peak / 2**20
