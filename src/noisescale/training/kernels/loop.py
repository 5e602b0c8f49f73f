"""The kernel that computes one run after another. It serves wide networks and modules that cannot be packed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale.training.kernels.evaluation import RunByRunEvaluation
from noisescale.training.kernels.kernel import Tensors
from noisescale.training.losses import Loss


class LoopKernel(RunByRunEvaluation):
    """Computes gradients by autograd, one run after another.

    Args:
        module: The module. Its forward pass and its constant buffers are used, its parameters are not.
        loss: The loss, averaged over the batch.
    """

    name = "loop"

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__(module)
        self._trained, self._loss = module.train(), loss

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Tensor,
        targets: Tensor,
        with_losses: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        gradients = {name: torch.empty_like(tensor) for name, tensor in parameters.items()}
        losses = inputs.new_empty(len(inputs))
        for run in range(len(inputs)):
            leaves = {name: tensor[run].detach().requires_grad_() for name, tensor in parameters.items()}
            # Views, because a training pass updates the buffers of the pack in place.
            statistics = {name: tensor[run] for name, tensor in buffers.items()}
            with torch.enable_grad(), _Seeded(seeds[run] if seeds is not None else None, inputs.device):
                outputs = functional_call(self._trained, (leaves, statistics), (inputs[run],))
                loss = self._loss.per_example(outputs, targets[run]).mean()
                run_gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
            losses[run] = loss.detach()
            for name, gradient in zip(leaves, run_gradients, strict=True):
                gradients[name][run] = gradient
        return losses, gradients


class _Seeded:
    """Seeds the global generators within a `with` block and restores them afterwards. Does nothing without a seed."""

    def __init__(self, seed: int | None, device: torch.device) -> None:
        self._seed = seed
        self._fork = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])

    def __enter__(self) -> None:
        if self._seed is not None:
            self._fork.__enter__()
            torch.manual_seed(self._seed)

    def __exit__(self, *exception: object) -> None:
        if self._seed is not None:
            self._fork.__exit__(None, None, None)
