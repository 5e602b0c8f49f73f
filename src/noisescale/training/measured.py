"""What of a pack is measured along its training, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from noisescale.measure import INSTRUMENTS, KEPT_NUMBERS, PackProblem, Snapshot, measure_pack
from noisescale.parameterizations import stream
from noisescale.runs import Run
from noisescale.training.kernels import Tensors
from noisescale.training.losses import Loss
from noisescale.training.metrics import Split
from noisescale.training.precision import PRECISIONS

# Vectors of a network's size that a measurement holds at once.
_VECTORS = 8


class Measurements:
    """The quantities that a run asks for, at the evaluations nearest to the shares of the budget that it names.

    Args:
        run: Of the pack.
        evaluations: Their steps.
        step_at: The step at a share of the budget.
        train: The training set.
        module: Of the pack.
        loss: Of the pack.
        multipliers: C by parameter, [R, …] each.
        numbers: That one example leaves behind.
        packable: Whether `torch.func.vmap` can compute the module.
    """

    def __init__(
        self,
        run: Run,
        evaluations: Sequence[int],
        step_at: Callable[[Fraction], int],
        train: Split,
        module: nn.Module,
        loss: Loss,
        multipliers: Tensors,
        *,
        numbers: int,
        packable: bool,
    ) -> None:
        self._quantities = run.measure.split()
        shares = map(Fraction, run.measure_at.split())
        self.steps = {min(evaluations, key=lambda own: abs(own - step_at(share))) for share in shares}
        across = any(INSTRUMENTS[name].across for name in self._quantities)
        self.before = {step - 1 for step in self.steps if step} if across else set[int]()
        self._module, self._loss, self._multipliers = module, loss, multipliers
        self._numbers, self._packable, self._population = numbers, packable, len(train.inputs)
        index = torch.randperm(self._population, generator=stream(run.data_seed, "measured examples"))
        self._examples = train.take(index[: run.measure_examples].sort().values.to(train.inputs.device))

    def measure(
        self, parameters: Tensors, buffers: Tensors, before: Tensors | None, rates: Tensor, frozen: Tensor
    ) -> dict[str, Tensor]:
        """Every column [R], nan for runs marked in `frozen` [R].

        Args:
            parameters: [R, …] each.
            buffers: [R, …] each.
            before: Parameters a step ago.
            rates: ε of the step that led here, [R].
            frozen: Diverged runs, [R].
        """
        chosen, size = self._examples, sum(one[0].numel() for one in parameters.values())
        together = max(1, KEPT_NUMBERS // max(len(chosen.inputs) * self._numbers, _VECTORS * size))
        parts = []
        # In the precision of the parameters, whatever training multiplies in.
        with PRECISIONS["float32"].apply(frozen.device.type), torch.autocast(frozen.device.type, enabled=False):
            for begin in range(0, len(frozen), together):
                some = slice(begin, begin + together)
                own, moving, multipliers, earlier = (
                    {name: one[some] for name, one in (tensors or {}).items()}
                    for tensors in (parameters, buffers, self._multipliers, before)
                )
                problem = PackProblem(
                    self._module, self._loss.per_example, own, moving, multipliers, chosen.inputs, chosen.rows,
                    numbers=self._numbers, packable=self._packable,
                )  # fmt: skip
                snapshot = Snapshot(problem, earlier or None, rates[some], self._population)
                parts.append(measure_pack(snapshot, self._quantities))
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: own.masked_fill(frozen.cpu(), torch.nan) for name, own in found.items()}
