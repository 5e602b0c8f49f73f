"""The seam itself: what every kernel offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

Tensors = dict[str, Tensor]


class Kernel(Protocol):
    """Losses and gradients of R runs at once; every tensor's first axis is the pack's runs."""

    name: str
    """How the runs are computed, as the column `kernel` of a study says it."""

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Tensor,
        targets: Tensor,
        with_losses: bool = True,
        draws: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        """Mean losses [R] and their gradients, with the module in training mode.

        Args:
            parameters: [R, …] each.
            buffers: [R, …] each, those that a training pass changes (running statistics); changed in place.
            inputs: [R, B, …].
            targets: [R, B, K].
            with_losses: losses are needed only when divergence is looked for; without them a step of a small network is
                a sixth shorter.
            draws: one number a run, from which random operations of the forward pass (dropout) are seeded; only where
                the module has such operations.

        Returns:
            The losses (None where not asked for) and the gradients by parameter.
        """
        ...

    def outputs(self, parameters: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
        """Outputs [R, M, K] of every run on the same inputs [M, …], with the module in evaluation mode."""
        ...
