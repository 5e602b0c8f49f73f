"""One step of the runs of a pack that train together: gradients, then the optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from noisescale.named_inputs import Inputs
from noisescale.runs import Run
from noisescale.training.batches import Stretch
from noisescale.training.block_order import BlockOrder
from noisescale.training.graphed import GraphedStep, is_short
from noisescale.training.kernels import Choice
from noisescale.training.microbatches import Unused, accumulate, part_seeds, parts_of
from noisescale.training.optimizers import PackedOptimizer, Tensors
from noisescale.training.split import Split
from noisescale.training.state import PackState, views

# Called before each update with the number of the step, the slice of the runs that train together, and their gradients
# by parameter name, shape [R, …] each.
OnStep = Callable[[int, slice, Tensors], None]


@dataclass(frozen=True, slots=True)
class PartTensors:
    """Views of the tensors of a state, of the runs of one part. Steps change them in place.

    Args:
        parameters: Parameters by name, shape [R, …] each.
        buffers: Buffers by name, shape [R, …] each.
        slots: The optimizer's tensors, by slot and parameter.
        skipped: Number of steps in which each run did not use a parameter, by parameter, shape [R] each.
    """

    parameters: Tensors
    buffers: Tensors
    slots: dict[str, Tensors]
    skipped: Tensors


class PartStep:
    """Takes steps for the runs of one part of a pack.

    Args:
        runs: All runs of the pack.
        runs_slice: The slice of the runs that train together.
        optimizer: The optimizer of the runs in `runs_slice`.
        choice: The kernel of the pack, and whether it needs random seeds.
        losses_and_gradients: The kernel's method `losses_and_gradients`, possibly compiled.
        train: The training set.
        order: The order of the examples.
        share: A function from the targets of a part and of a batch to the weight of the part in the batch.
        on_step: A function that observes the gradients of every step. None for no observer.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        runs_slice: slice,
        optimizer: PackedOptimizer,
        choice: Choice,
        losses_and_gradients: Callable[..., tuple[Tensor | None, Tensors]],
        train: Split,
        order: BlockOrder,
        share: Callable[[Tensor, Tensor], Tensor | float],
        on_step: OnStep | None = None,
    ) -> None:
        self.runs_slice, self.optimizer = runs_slice, optimizer
        self._runs, self._choice = runs[runs_slice], choice
        self._losses_and_gradients, self._share = losses_and_gradients, share
        self._train, self._order, self._on_step = train, order, on_step
        self._may_capture = train.inputs.is_cuda
        self._graph: GraphedStep | None = None
        self._graph_is_tried = False

    def forget_graph(self) -> None:
        """Drop the captured CUDA graph, because the tensors of the state were replaced."""
        self._graph, self._graph_is_tried = None, False

    def tensors(self, state: PackState) -> PartTensors:
        """Return the tensors that steps change. They stay valid until the tensors of the state are replaced."""
        slots = {slot: views(tensors, self.runs_slice) for slot, tensors in state.slots.items()}
        parts = (views(tensors, self.runs_slice) for tensors in (state.parameters, state.buffers, state.skipped))
        parameters, buffers, skipped = parts
        return PartTensors(parameters, buffers, slots, skipped)

    def take(
        self, state: PackState, tensors: PartTensors, stretch: Stretch, index: Tensor, step: int, with_losses: bool
    ) -> Tensor | None:
        """Take one step in place.

        Args:
            state: The state of the pack.
            tensors: Its tensors, from `tensors`.
            stretch: The consecutive steps of one batch size to which this step belongs.
            index: Indices [R·B] of the examples.
            step: The number of the step, from 1.
            with_losses: Whether to compute losses.

        Returns:
            Losses, shape [R], or None.
        """
        if self._may_capture and not self._graph_is_tried:
            self._capture(state, tensors, stretch, index)
        if self._graph is not None:
            return self._graph(index)
        losses, unused = self._compute(tensors, stretch, index, step, with_losses)
        if unused and self._choice.kernel.name == "loop":  # in a pack, either every pass uses a parameter or none
            state.add_skipped(unused, self.runs_slice)
            tensors.skipped.update(views(state.skipped, self.runs_slice))
        return losses

    def _compute(
        self, tensors: PartTensors, stretch: Stretch, index: Tensor, step: int, with_losses: bool
    ) -> tuple[Tensor | None, Unused]:
        size, runs = stretch.batch_size, len(self._runs)
        parameters, buffers = tensors.parameters, tensors.buffers
        inputs, targets = self._train.batch(index)
        inputs = self._order.augment(inputs, stretch, self.runs_slice, step)
        targets = targets.view(runs, size, *targets.shape[1:])
        # A view is a few times faster than `unflatten`, which inputs by name have too.
        inputs = (
            inputs.view(runs, size, *inputs.shape[1:])
            if isinstance(inputs, Tensor)
            else inputs.unflatten(0, (runs, size))
        )
        if self._runs[0].microbatch is None:
            seeds = part_seeds(self._runs, step, 0, 1) if self._choice.needs_seeds else None
            results = self._losses_and_gradients(parameters, buffers, inputs, targets, with_losses, seeds)
            losses, gradients, unused = *results, self._choice.kernel.unused
        else:
            losses, gradients, unused = self._accumulated(tensors, inputs, targets, step, with_losses)
        if self._on_step is not None:
            self._on_step(step, self.runs_slice, gradients)
        self.optimizer.step(parameters, tensors.slots, gradients, unused, tensors.skipped)
        return losses, unused

    def _accumulated(
        self, tensors: PartTensors, inputs: Inputs, targets: Tensor, step: int, with_losses: bool
    ) -> tuple[Tensor | None, Tensors, Unused]:
        """Return what `_compute` needs of a batch that is computed in parts."""
        parts, seeded = parts_of(targets.shape[1], self._runs[0].microbatch), self._choice.needs_seeds
        seeds = [part_seeds(self._runs, step, place, len(parts)) if seeded else None for place in range(len(parts))]

        def compute(
            inputs: Inputs, targets: Tensor, seeds: Sequence[int] | None
        ) -> tuple[Tensor | None, Tensors, Unused]:
            of_part = inputs, targets, with_losses, seeds
            results = self._losses_and_gradients(tensors.parameters, tensors.buffers, *of_part)
            return *results, self._choice.kernel.unused

        return accumulate(compute, tensors.buffers, inputs, targets, parts, seeds, self._share)

    def _capture(self, state: PackState, tensors: PartTensors, stretch: Stretch, index: Tensor) -> None:
        """Capture the step as a CUDA graph if it is short and depends on nothing but the index."""
        self._graph_is_tried = True
        # If the batch size changes, each size would need a graph, which only a few steps could use.
        batch_size_changes = "batch_size" in self._runs[0].schedule
        depends_on_step = (
            batch_size_changes or self._order.augments or self._choice.needs_seeds or self._on_step is not None
        )
        if depends_on_step or self._choice.kernel.name == "loop":
            return
        changed = [tensor[self.runs_slice] for tensors in state.changed_by_steps() for tensor in tensors.values()]

        def body(index: Tensor) -> Tensor:
            losses, _ = self._compute(tensors, stretch, index, 1, True)
            assert losses is not None
            return losses

        index = index.contiguous()
        if is_short(lambda: body(index), changed):
            self._graph = GraphedStep(body, index, changed)
