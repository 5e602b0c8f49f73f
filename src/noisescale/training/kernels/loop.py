"""One run at a time: for wide networks, whose steps fill the machine alone, and for modules that cannot be packed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisescale.training.kernels.evaluating import Evaluating
from noisescale.training.kernels.seam import Tensors
from noisescale.training.losses import Loss


class LoopKernel(Evaluating):
    """Gradients by autograd, run after run, into the pack's tensors.

    Args:
        module: Supplies the forward pass and the buffers that never change; its own parameters are not used.
        loss: The loss, averaged over the batch.
    """

    name = "loop"

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__(module)
        self._training, self._loss = module.train(), loss

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Tensor,
        targets: Tensor,
        with_losses: bool = True,
        draws: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        gradients = {name: torch.empty_like(tensor) for name, tensor in parameters.items()}
        losses = inputs.new_empty(len(inputs))
        for run in range(len(inputs)):
            own = {name: tensor[run].detach().requires_grad_() for name, tensor in parameters.items()}
            # A view of the pack's buffer: what a training pass writes into it stays.
            moving = {name: tensor[run] for name, tensor in buffers.items()}
            with torch.enable_grad(), _seeded(draws[run] if draws is not None else None, inputs.device):
                outputs = functional_call(self._training, (own, moving), (inputs[run],))
                loss = self._loss.per_example(outputs, targets[run]).mean()
                found = torch.autograd.grad(loss, list(own.values()), materialize_grads=True)
            losses[run] = loss.detach()
            for name, gradient in zip(own, found, strict=True):
                gradients[name][run] = gradient
        return losses, gradients


class _seeded:
    """The global generators seeded with a number for the length of a block, and put back afterwards."""

    def __init__(self, number: int | None, device: torch.device) -> None:
        self._number = number
        self._fork = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])

    def __enter__(self) -> None:
        if self._number is not None:
            self._fork.__enter__()
            torch.manual_seed(self._number)

    def __exit__(self, *exception: object) -> None:
        if self._number is not None:
            self._fork.__exit__(None, None, None)
