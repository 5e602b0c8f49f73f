"""The order of the examples and their augmentation, in the current block of a pack."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from noisescale.input_shapes import InputShape
from noisescale.named_inputs import Inputs
from noisescale.runs import Run
from noisescale.training.augmentation import Draws, augment, draw_block
from noisescale.training.batches import Stretch
from noisescale.training.sampling import FRESH_BLOCK, index_block


class BlockOrder:
    """The example indices and the random changes of one block (an epoch, or a number of steps).

    They are kept until another block is requested.

    They follow from the seed of each run and the number of the block, so the state of a pack does not include them.

    Args:
        runs: The runs of the pack.
        examples: N, the number of training examples.
        input_shape: Shape of one example.
        device: The device of the training set.
    """

    def __init__(self, runs: Sequence[Run], examples: int, input_shape: InputShape, device: str) -> None:
        self._sampling, self._seeds = runs[0].sampling, [run.seed for run in runs]
        self._augmentations = runs[0].augmentation.split()
        self._examples, self._shape, self._device = examples, input_shape, device
        self._block = -1
        self._index: Tensor
        self._draws: Draws

    @property
    def augments(self) -> bool:
        """Whether examples are augmented."""
        return bool(self._augmentations)

    def index(self, stretch: Stretch) -> Tensor:
        """Return the indices [R, L] of the stretch's block."""
        if self._block != stretch.block:
            size, steps = stretch.batch_size, min(stretch.steps, FRESH_BLOCK)
            order = index_block(self._sampling, self._seeds, stretch.block, self._examples, size, steps)
            if self.augments:
                assert isinstance(self._shape, tuple)  # others have no augmentation
                draws = draw_block(self._augmentations, self._seeds, stretch.block, order.shape[1], self._shape)
                self._draws = draws.to(self._device)
            self._block, self._index = stretch.block, order.to(self._device)
        return self._index

    def steps(self, stretch: Stretch, part: slice, first: int, stop: int) -> Sequence[Tensor]:
        """Return the example indices of consecutive steps of a stretch, one tensor [R·B] per step.

        Args:
            stretch: Steps of one batch size in one block.
            part: The slice of the runs.
            first: Number of the first step, counted from 0.
            stop: Number of the step after the last one.
        """
        size = stretch.batch_size
        begin, end = (stretch.start + (step - stretch.first) * size for step in (first, stop))
        index = self.index(stretch)[part, begin:end]
        return index.view(len(index), -1, size).transpose(0, 1).flatten(1).unbind()

    def augment(self, inputs: Inputs, stretch: Stretch, part: slice, step: int) -> Inputs:
        """Return the inputs [R·B, …] of a step, counted from 1, with the random changes of its examples."""
        if not self.augments or not isinstance(inputs, Tensor):
            return inputs
        begin = stretch.start + (step - 1 - stretch.first) * stretch.batch_size
        return augment(inputs, self._draws.at(part, begin, begin + stretch.batch_size))
