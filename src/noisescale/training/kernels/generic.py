"""The generic kernel: `torch.func` over any module."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from noisescale.training.kernels.evaluating import Evaluating
from noisescale.training.kernels.seam import Tensors
from noisescale.training.kernels.unfolded import UnfoldedConvolutions
from noisescale.training.losses import Loss


class GenericKernel(Evaluating):
    """Gradients of any `nn.Module`, vectorised over runs by `torch.func.vmap`.

    A convolution of R runs becomes one grouped convolution, or, unfolded, one batched matrix product.

    Args:
        module: Supplies the forward pass and the buffers that never change; its own parameters are not used.
        loss: The loss, averaged over the batch.
        unfolded: Whether convolutions are computed as matrix products of unfolded inputs.
    """

    def __init__(self, module: nn.Module, loss: Loss, *, unfolded: bool = False) -> None:
        self.name = "unfolded" if unfolded else "vmap"
        super().__init__(module)
        training, self._loss = module.train(), loss
        self._convolutions: AbstractContextManager[object] = UnfoldedConvolutions() if unfolded else nullcontext()

        def outputs(parameters: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
            found: Tensor = functional_call(training, (parameters, buffers), (inputs,))
            return found

        self._training_outputs = vmap(outputs)

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Tensor,
        targets: Tensor,
        with_losses: bool = True,
        draws: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        own = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        # Autograd around the vectorised pass, not `grad` within it, takes a tenth less time: no run's loss depends on
        # another run's parameters, so the gradient of their sum is each one's own.
        with torch.enable_grad(), self._convolutions:
            losses = self._loss.per_example(self._training_outputs(own, buffers, inputs), targets).mean(1)
            gradients = torch.autograd.grad(losses.sum(), list(own.values()), materialize_grads=True)
        return losses.detach(), dict(zip(own, gradients, strict=True))
