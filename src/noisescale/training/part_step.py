"""One step of the runs of a pack that train together: gradients, then the optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
        self._graph: GraphedStep | None = None
        self._graph_is_tried = False

    def forget_graph(self) -> None:
        """Drop the captured CUDA graph, because the tensors of the state were replaced."""
        self._graph, self._graph_is_tried = None, False

    def take(self, state: PackState, stretch: Stretch, index: Tensor, step: int, with_losses: bool) -> Tensor | None:
        """Take one step in place.

        Args:
            state: The state of the pack.
            stretch: The consecutive steps of one batch size to which this step belongs.
            index: Indices [R·B] of the examples.
            step: The number of the step, from 1.
            with_losses: Whether to compute losses.

        Returns:
            Losses, shape [R], or None.
        """
        if self._train.inputs.is_cuda and not self._graph_is_tried:
            self._capture(state, stretch, index)
        if self._graph is not None:
            return self._graph(index)
        return self._compute(state, stretch, index, step, with_losses)

    def _compute(
        self, state: PackState, stretch: Stretch, index: Tensor, step: int, with_losses: bool
    ) -> Tensor | None:
        size, runs = stretch.batch_size, len(self._runs)
        parameters, buffers = views(state.parameters, self.runs_slice), views(state.buffers, self.runs_slice)
        slots = {slot: views(tensors, self.runs_slice) for slot, tensors in state.slots.items()}
        inputs, targets = self._train.batch(index)
        inputs = self._order.augment(inputs, stretch, self.runs_slice, step)
        targets = targets.view(runs, size, *targets.shape[1:])
        inputs = inputs.unflatten(0, (runs, size))
        parts, seeded = parts_of(size, self._runs[0].microbatch), self._choice.needs_seeds
        seeds = [part_seeds(self._runs, step, place, len(parts)) if seeded else None for place in range(len(parts))]

        def compute(
            inputs: Inputs, targets: Tensor, seeds: Sequence[int] | None
        ) -> tuple[Tensor | None, Tensors, Unused]:
            results = self._losses_and_gradients(parameters, buffers, inputs, targets, with_losses, seeds)
            return *results, self._choice.kernel.unused

        losses, gradients, unused = accumulate(compute, buffers, inputs, targets, parts, seeds, self._share)
        if self._on_step is not None:
            self._on_step(step, self.runs_slice, gradients)
        self.optimizer.step(parameters, slots, gradients, unused, views(state.skipped, self.runs_slice))
        if self._choice.kernel.name == "loop":  # in a pack, either every pass uses a parameter or none
            state.add_skipped(unused, self.runs_slice)
        return losses

    def _capture(self, state: PackState, stretch: Stretch, index: Tensor) -> None:
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
            losses = self._compute(state, stretch, index, 1, True)
            assert losses is not None
            return losses

        index = index.contiguous()
        if is_short(lambda: body(index), changed):
            self._graph = GraphedStep(body, index, changed)
