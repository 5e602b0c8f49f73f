"""Random changes of training images, applied on the device. They depend only on the run's seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from noisescale.errors import BadInput
from noisescale.families import spatial_axes
from noisescale.input_shapes import InputShape, NamedShapes
from noisescale.parameterizations import stream

# "flip": the image is mirrored with probability ½. "crop": the image is shifted by up to an eighth of its side in both
# directions. For a side of 32 pixels this is 4 pixels, as in He, Zhang, Ren, Sun 2016, section 4.2. The border is
# filled with 0, the mean of standardized inputs (the paper fills it with black).
AUGMENTATIONS = ("flip", "crop")
_SIDE_OVER_SHIFT = 8


@dataclass(frozen=True, slots=True)
class Draws:
    """The random changes of each example of a block (an epoch, or a number of steps).

    An image is first padded by the largest shift on each side. A crop of the original size is then taken from it.

    Args:
        flip: Whether the image is mirrored, shape [R, L].
        down: First row of the crop, in pixels, from 0 to twice the largest shift, shape [R, L].
        right: First column of the crop, in pixels, from 0 to twice the largest shift, shape [R, L].
    """

    flip: Tensor
    down: Tensor
    right: Tensor

    def at(self, part: slice, start: int, end: int) -> Draws:
        """Return the changes of the runs in `part`, for the examples from `start` to `end` of the block."""
        return Draws(*(tensor[part, start:end] for tensor in (self.flip, self.down, self.right)))

    def to(self, device: str) -> Draws:
        """Return the changes on a device."""
        return Draws(*(tensor.to(device) for tensor in (self.flip, self.down, self.right)))


def check_augmentation(names: Sequence[str], input_shape: InputShape) -> None:
    """Refuse augmentation of inputs that are not images.

    Raises:
        BadInput: There is an augmentation, and inputs do not have the shape [channels, height, width].
    """
    if names and (isinstance(input_shape, NamedShapes) or spatial_axes(input_shape) != 2):
        required = "no augmentation, because inputs are not images [channels, height, width]"
        raise BadInput(
            "training.augmentation",
            required,
            f"inputs by name: {', '.join(map(repr, input_shape))}"
            if isinstance(input_shape, NamedShapes)
            else f"inputs of shape {list(input_shape)}",
        )


def draw_block(names: Sequence[str], seeds: Sequence[int], block: int, examples: int, shape: Sequence[int]) -> Draws:
    """Draw the changes of one block.

    Args:
        names: Names in `AUGMENTATIONS`.
        seeds: Seeds of the R runs.
        block: Number of the block.
        examples: L, the number of examples of the block.
        shape: Shape of one input, (channels, height, width).

    Returns:
        The changes, shape [R, L] each.
    """
    by_seed = {seed: _draw(names, seed, block, examples, shape) for seed in set(seeds)}
    return Draws(*(torch.stack([by_seed[seed][place] for seed in seeds]) for place in range(3)))


def _draw(names: Sequence[str], seed: int, block: int, examples: int, shape: Sequence[int]) -> tuple[Tensor, ...]:
    generator = stream(seed, "augmentation", block)
    flip = torch.randint(2, (examples,), generator=generator).bool()
    down, right = (
        torch.randint(2 * largest_shift(side) + 1, (examples,), generator=generator, dtype=torch.int32)
        for side in shape[1:]
    )
    if "flip" not in names:
        flip = torch.zeros_like(flip)
    if "crop" not in names:
        down, right = (
            torch.full_like(shift, largest_shift(side)) for shift, side in zip((down, right), shape[1:], strict=True)
        )
    return flip, down, right


def largest_shift(side: int) -> int:
    """Return the largest shift of an image with this side, in pixels."""
    return side // _SIDE_OVER_SHIFT


def augment(images: Tensor, draws: Draws) -> Tensor:
    """Shift and mirror images.

    Args:
        images: Images [R·B, C, H, W].
        draws: The changes of R·B examples, shape [R·B] or [R, B].

    Returns:
        The changed images, [R·B, C, H, W].
    """
    count, channels, height, width = images.shape
    down, right = largest_shift(height), largest_shift(width)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(draws.flip.reshape(-1, 1), width - 1 - columns, columns) + draws.right.reshape(-1, 1)
    rows = torch.arange(height, device=images.device) + draws.down.reshape(-1, 1)
    wide = pad(images, (right, right, down, down))
    image = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    return wide[image, channel, rows.view(count, 1, -1, 1), columns.view(count, 1, 1, -1)]
