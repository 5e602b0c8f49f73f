"""The one seam of the trainer: losses and gradients of R runs at once.

Optimizer, sampling, divergence, evaluation and storage lie outside it and know no family.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from noisescale.training.kernels.generic import GenericKernel as GenericKernel
from noisescale.training.kernels.mlp import MLPKernel as MLPKernel
from noisescale.training.kernels.mlp import mlp_layers
from noisescale.training.losses import Loss

Parameters = dict[str, Tensor]


class Kernel(Protocol):
    """What a kernel offers; every tensor's first axis is the pack's R runs."""

    def losses_and_gradients(
        self, parameters: Parameters, inputs: Tensor, targets: Tensor, with_losses: bool = True
    ) -> tuple[Tensor | None, Parameters]:
        """Mean losses [R] and their gradients, from parameters[R, …], inputs[R, B, …] and targets[R, B, K].

        Losses are needed only when divergence is looked for; without them a step of a small network is a sixth shorter.
        """
        ...

    def outputs(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs [R, M, K] of every run on the same inputs [M, …]."""
        ...


def choose_kernel(module: nn.Module, loss: Loss, kind: str = "auto") -> Kernel:
    """The explicit kernel where the module is a plain MLP, else the generic one.

    Arguments:
        kind: "auto", or "generic" to decline the explicit kernel (they must agree; tests compare them).
    """
    layers = mlp_layers(module) if kind == "auto" else None
    return GenericKernel(module, loss) if layers is None else MLPKernel(layers, loss)
