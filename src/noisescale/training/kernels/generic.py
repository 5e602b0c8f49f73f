"""The generic kernel: `torch.func` over any module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from noisescale.training.losses import Loss


class GenericKernel:
    """Gradients of any `nn.Module`, vectorised over runs by `torch.func.vmap`.

    Arguments:
        module: supplies the forward pass and its buffers; its own parameters are not used.
        loss: the loss, averaged over the batch.
    """

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        def mean_loss(parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
            return loss.per_example(functional_call(module, parameters, (inputs,)), targets).mean()

        def forward(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
            return functional_call(module, parameters, (inputs,))  # type: ignore[no-any-return]

        self._gradients = vmap(grad_and_value(mean_loss))
        self._forward = vmap(forward, in_dims=(0, None))

    def losses_and_gradients(
        self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, with_losses: bool = True
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        gradients, losses = self._gradients(parameters, inputs, targets)
        return losses, gradients

    def outputs(self, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return self._forward(parameters, inputs)
