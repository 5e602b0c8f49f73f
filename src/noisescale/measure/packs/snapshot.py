"""A pack at one step, as the instruments see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from noisescale.measure.noise import GradientNoise, Moments, noise_of_moments
from noisescale.measure.packs.mlp import Tensors
from noisescale.measure.packs.problem import PackProblem

# Examples of whose Gram matrix the floor of |G|²'s variance is estimated; all runs of a pack pay for them.
_GRAM_EXAMPLES = 64


@dataclass(frozen=True)
class Snapshot:
    """A pack at one step.

    Args:
        problem: Networks, loss and examples.
        before: Parameters one step ago, [R, …] each; None at step 0.
        learning_rates: [R], ε of the step that led here.
        population: N, the training examples of which those of the problem are a random subset.
    """

    problem: PackProblem
    before: Tensors | None
    learning_rates: Tensor
    population: int

    @cached_property
    def start(self) -> Tensor:
        """A random direction [R, P], the same for every run, so that none depends on its pack-mates."""
        point = self.problem.point
        direction = torch.randn(self.problem.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return direction.to(point).expand_as(point)

    @cached_property
    def noise(self) -> list[GradientNoise]:
        """Of each run, from its per-example gradients."""
        found, n = self.problem.gradient_moments(_GRAM_EXAMPLES), self.problem.examples
        squares, along, norms = (own.cpu().numpy() for own in (found.squares, found.along, found.mean_square))
        return [
            noise_of_moments(
                Moments(squares[run], along[run], float(norms[run])), found.gram[run], float(self.population),
                "optimizer", n, 1,
            )
            for run in range(self.problem.runs)
        ]  # fmt: skip
