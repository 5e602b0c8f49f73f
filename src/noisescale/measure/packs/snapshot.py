"""A pack at one step of training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from noisescale.measure.noise import GradientNoise, Moments, noise_of_moments
from noisescale.measure.packs.mlp import Tensors
from noisescale.measure.packs.problem import PackProblem

# Number of examples in the Gram matrix, which bounds the variance of |G|² from below. Each run has such a matrix.
_GRAM_EXAMPLES = 64


@dataclass(frozen=True)
class Snapshot:
    """A pack at one step of training.

    Args:
        problem: The networks, the loss and the examples.
        before: Parameters before the last step, by name, shape [R, …] each. None at step 0.
        learning_rates: Learning rate ε of the last step, shape [R].
        population: Number N of training examples. The examples of the problem are a random subset.
    """

    problem: PackProblem
    before: Tensors | None
    learning_rates: Tensor
    population: int

    @cached_property
    def start(self) -> Tensor:
        """A random direction, shape [R, P], the same for all runs. So the result of a run is the same in any pack."""
        point = self.problem.point
        direction = torch.randn(self.problem.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return direction.to(point).expand_as(point)

    @cached_property
    def noise(self) -> list[GradientNoise]:
        """The gradient noise of each run, from its per-example gradients."""
        moments, n = self.problem.gradient_moments(_GRAM_EXAMPLES), self.problem.examples
        squares, along, norms = (
            values.cpu().numpy() for values in (moments.squares, moments.along, moments.mean_square)
        )
        return [
            noise_of_moments(
                Moments(squares[run], along[run], float(norms[run])), moments.gram[run], float(self.population),
                "optimizer", n, 1,
            )
            for run in range(self.problem.runs)
        ]  # fmt: skip
