"""The kernel for any module that `torch.func` can vectorize over runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from noisescale.families import check_replaced, in_mode
from noisescale.named_inputs import Inputs
from noisescale.training.kernels.attention import plain_attention
from noisescale.training.kernels.evaluation import RunByRunEvaluation
from noisescale.training.kernels.kernel import Tensors
from noisescale.training.kernels.run_draws import RunDraws
from noisescale.training.kernels.unfolded import UnfoldedConvolutions
from noisescale.training.objectives import Objective
from noisescale.user_code import ProcessState


class GenericKernel(RunByRunEvaluation):
    """Computes gradients of any module, vectorized over runs by `torch.func.vmap`.

    The convolutions of R runs become one grouped convolution or, if unfolded, one batched matrix product.

    Args:
        module: The module. Its forward pass and its constant buffers are used, its parameters are not.
        objective: What each run minimizes.
        unfolded: Whether to compute convolutions as matrix products of unfolded inputs.
    """

    def __init__(self, module: nn.Module, objective: Objective, *, unfolded: bool = False) -> None:
        self.name = "unfolded" if unfolded else "vmap"
        super().__init__(module)
        self._objective = objective
        self._convolutions: AbstractContextManager[object] = UnfoldedConvolutions() if unfolded else nullcontext()

        trained = in_mode(module, training=True)

        # A pass of the user's may put another tensor in the place of a buffer.
        watched = _WithBuffers(trained) if self._runs_user_code else None

        def outputs(parameters: Tensors, buffers: Tensors, inputs: Inputs) -> tuple[Tensor, Tensors]:
            if watched is None or not buffers:
                return functional_call(trained, (parameters, buffers), (inputs,)), {}
            values = {f"module.{name}": tensor for name, tensor in (*parameters.items(), *buffers.items())}
            result, current = functional_call(watched, values, (inputs,))
            return result, {name: current[name] for name, buffer in buffers.items() if current[name] is not buffer}

        self._training_outputs = vmap(outputs)
        self._random_outputs = vmap(outputs, randomness="different")
        self.unused: dict[str, range] = {}

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Inputs,
        targets: Tensor,
        with_losses: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        state = ProcessState() if self._changes_settings is not False else None
        # The loss of a run does not depend on other runs, so the gradient of the summed losses contains the gradient of
        # each run. Autograd around the vectorized pass takes a tenth less time than `torch.func.grad` within it.
        attention = nullcontext() if inputs.is_cuda else plain_attention()
        with torch.enable_grad(), self._convolutions, attention:
            if seeds is None:
                outputs, replaced = self._training_outputs(leaves, buffers, inputs)
            else:
                with RunDraws(seeds, inputs.device):
                    outputs, replaced = self._random_outputs(leaves, buffers, inputs)
            losses = self._objective.of_runs(outputs, targets)
            computed = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        if state is not None:
            self._changes_settings = bool(state.restore()) or bool(self._changes_settings)
        for name, values in replaced.items():
            check_replaced(name, buffers[name], values)
            buffers[name].copy_(values.detach())
        gradients = dict(zip(leaves, computed, strict=True))
        self.unused = {name: range(len(inputs)) for name, gradient in gradients.items() if gradient is None}
        return losses.detach(), {
            name: torch.zeros_like(leaves[name]) if gradient is None else gradient
            for name, gradient in gradients.items()
        }


class _WithBuffers(nn.Module):
    """Returns the outputs of a module, and its parameters and buffers after the pass by name."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensors]:
        return self.module(inputs), {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
