"""Measurements during the training of a pack: which quantities, and at which evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from noisescale.measure import INSTRUMENTS, KEPT_NUMBERS, PackProblem, Snapshot, measure_pack
from noisescale.parameterizations import stream
from noisescale.runs import Run
from noisescale.training.kernels import Tensors
from noisescale.training.objectives import Objective
from noisescale.training.precision import PRECISIONS
from noisescale.training.split import Split
from noisescale.training.state import views
from noisescale.user_code import preserved_process

# Number of vectors of the network's size that a measurement holds at once.
_VECTORS = 8


class Measurements:
    """Measures the quantities in `run.measure`, at the evaluations nearest to the shares of the budget in `measure_at`.

    Args:
        run: Any run of the pack.
        evaluations: The steps of the evaluations.
        step_at: A function from a share of the budget to the number of steps after which it is done.
        train: The training set.
        module: The module of the pack.
        objective: What the runs minimize.
        multipliers: Rate multipliers c by parameter, shape [R, …] each.
        numbers: Number of elements that one example keeps for the backward pass.
        packable: Whether `torch.func.vmap` can compute the module for several runs at once.
    """

    def __init__(
        self,
        run: Run,
        evaluations: Sequence[int],
        step_at: Callable[[Fraction], int],
        train: Split,
        module: nn.Module,
        objective: Objective,
        multipliers: Tensors,
        *,
        numbers: int,
        packable: bool,
    ) -> None:
        self._quantities = run.measure.split()
        shares = map(Fraction, run.measure_at.split())
        self.steps = {min(evaluations, key=lambda step: abs(step - step_at(share))) for share in shares}
        across = any(INSTRUMENTS[name].across for name in self._quantities)
        self.before = {step - 1 for step in self.steps if step} if across else set[int]()
        self._module, self._multipliers = module, multipliers
        self._numbers, self._packable, self._population = numbers, packable, len(train.inputs)
        index = torch.randperm(self._population, generator=stream(run.data_seed, "measured examples"))
        self._examples = train.take(index[: run.measure_examples].sort().values.to(train.inputs.device))
        self._per_example = objective.per_example(self._examples.targets)

    def measure(
        self, parameters: Tensors, buffers: Tensors, before: Tensors | None, rates: Tensor, frozen: Tensor
    ) -> dict[str, Tensor]:
        """Measure every quantity.

        Args:
            parameters: Parameters by name, shape [R, …] each.
            buffers: Buffers by name, shape [R, …] each.
            before: The parameters one step earlier, if a quantity compares two steps; otherwise None.
            rates: Learning rate ε of the last step, shape [R].
            frozen: Whether each run has diverged, shape [R].

        Returns:
            The columns by name, shape [R] each, NaN for diverged runs.
        """
        examples, size = self._examples, sum(tensor[0].numel() for tensor in parameters.values())
        together = max(1, KEPT_NUMBERS // max(len(examples.inputs) * self._numbers, _VECTORS * size))
        parts = []
        # Measurements use the precision of the parameters, even if training uses a lower precision.
        precision = PRECISIONS["float32"].apply(frozen.device.type)
        with preserved_process(), precision, torch.autocast(frozen.device.type, enabled=False):
            for begin in range(0, len(frozen), together):
                part = slice(begin, begin + together)
                weights, moving, multipliers, earlier = (
                    views(tensors or {}, part) for tensors in (parameters, buffers, self._multipliers, before)
                )
                # Copies, because a pass may count in a buffer, or change its weights, in evaluation mode too.
                weights, moving = ({name: tensor.clone() for name, tensor in t.items()} for t in (weights, moving))
                problem = PackProblem(
                    self._module, self._per_example, weights, moving, multipliers, examples.inputs, examples.targets,
                    numbers=self._numbers, packable=self._packable,
                )  # fmt: skip
                snapshot = Snapshot(problem, earlier or None, rates[part], self._population)
                parts.append(measure_pack(snapshot, self._quantities))
        columns = {name: torch.cat([values[name] for values in parts]) for name in parts[0]}
        return {name: values.masked_fill(frozen.cpu(), torch.nan) for name, values in columns.items()}
