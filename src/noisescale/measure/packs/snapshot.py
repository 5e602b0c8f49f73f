"""A pack at one step, as the instruments see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from noisescale.measure.noise import GradientNoise, Moments, noise_of_moments
from noisescale.measure.packs.problem import PackProblem, Tensors

# Numbers of per-example gradients that are computed at once, 64 MiB in float32, and that are kept between two passes.
_GRADIENTS_TOGETHER, _GRADIENTS_KEPT = 2**24, 2**26

# Examples of whose Gram matrix the floor of |G|²'s variance is estimated; all runs of a pack pay for them.
_GRAM_EXAMPLES = 64


@dataclass(frozen=True)
class Snapshot:
    """A pack at one step.

    Arguments:
        problem: networks, loss and examples. before: parameters one step ago, [R, …] each; None at step 0.
        learning_rates: [R], ε of the step that led here. population: N, the training examples of which those of the
            problem are a random subset.
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
        problem, n = self.problem, self.problem.examples
        keep = problem.runs * n * problem.size <= _GRADIENTS_KEPT
        kept = list(problem.per_example_gradients(_GRADIENTS_TOGETHER)) if keep else None

        def passes() -> Iterable[Tensor]:
            return kept if kept is not None else problem.per_example_gradients(_GRADIENTS_TOGETHER)

        mean = torch.zeros_like(problem.point, dtype=torch.float64)
        for part in passes():
            mean += part.sum(1, dtype=torch.float64) / n
        squares: list[Tensor] = []
        along: list[Tensor] = []
        few: list[Tensor] = []
        for part in passes():
            squares.append(part.square().sum(2, dtype=torch.float64))
            along.append(torch.bmm(part, mean.to(part).unsqueeze(2)).squeeze(2).double())
            if sum(one.shape[1] for one in few) < _GRAM_EXAMPLES:
                few.append(part[:, :_GRAM_EXAMPLES])
        whole = torch.cat(squares, 1).cpu().numpy(), torch.cat(along, 1).cpu().numpy()
        gram, norms = torch.cat(few, 1)[:, :_GRAM_EXAMPLES].double(), mean.square().sum(1).tolist()
        return [
            noise_of_moments(
                Moments(whole[0][run], whole[1][run], norms[run]), gram[run], float(self.population), "optimizer", n, 1
            )
            for run in range(problem.runs)
        ]
