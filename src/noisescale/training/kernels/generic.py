"""The generic kernel: `torch.func` over any module."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from noisescale.training.kernels.evaluating import Evaluating
from noisescale.training.kernels.seam import Tensors
from noisescale.training.kernels.unfolded import UnfoldedConvolutions
from noisescale.training.losses import Loss


class GenericKernel(Evaluating):
    """Gradients of any `nn.Module`, vectorised over runs by `torch.func.vmap`.

    A convolution of R runs becomes one grouped convolution, or, unfolded, one batched matrix product.

    Arguments:
        module: supplies the forward pass and the buffers that never change; its own parameters are not used.
        loss: the loss, averaged over the batch.
        unfolded: whether convolutions are computed as matrix products of unfolded inputs.
    """

    def __init__(self, module: nn.Module, loss: Loss, *, unfolded: bool = False) -> None:
        self.name = "unfolded" if unfolded else "vmap"
        super().__init__(module)
        training = module.train()
        self._convolutions: AbstractContextManager[object] = UnfoldedConvolutions() if unfolded else nullcontext()

        def mean_loss(parameters: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor) -> Tensor:
            outputs = functional_call(training, (parameters, buffers), (inputs,))
            return loss.per_example(outputs, targets).mean()

        self._gradients = vmap(grad_and_value(mean_loss))

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Tensor,
        targets: Tensor,
        with_losses: bool = True,
        draws: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        with self._convolutions:
            gradients, losses = self._gradients(parameters, buffers, inputs, targets)
        return losses, gradients
