"""The interface of a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from noisescale.named_inputs import Inputs

Tensors = dict[str, Tensor]


class Kernel(Protocol):
    """Computes losses, gradients and outputs of R runs at once. The first axis of every parameter is the run."""

    name: str
    """The name of the kernel, which the column `kernel` of a study shows."""

    @property
    def unused(self) -> Mapping[str, Sequence[int]]:
        """The runs whose last pass did not use a parameter, by its name. Torch's optimizers then leave it as it is."""
        ...

    def losses_and_gradients(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: Inputs,
        targets: Tensor,
        with_losses: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensors]:
        """Compute the mean loss of each run's batch and its gradient, with the module in training mode.

        Args:
            parameters: Parameters by name, shape [R, …] each.
            buffers: Buffers that a training pass changes (running statistics), shape [R, …] each. Changed in place.
            inputs: Batch of each run, shape [R, B, …].
            targets: Targets of each batch, shape [R, B, K].
            with_losses: Whether to compute losses. The trainer needs them only at steps at which it checks for
                divergence. Without losses, a step of a small network takes a sixth less time.
            seeds: Seed of each run for random operations of the forward pass (dropout). None if the module has no such
                operation.

        Returns:
            The losses, shape [R], or None; and the gradients by parameter name, shape [R, …] each.
        """
        ...

    def outputs(self, parameters: Tensors, buffers: Tensors, inputs: Inputs) -> Tensor:
        """Compute outputs of all runs on the same inputs, with the module in evaluation mode.

        Args:
            parameters: Parameters by name, shape [R, …] each.
            buffers: Buffers by name, shape [R, …] each.
            inputs: Inputs, shape [M, …].

        Returns:
            Outputs, shape [R, M, K].
        """
        ...
