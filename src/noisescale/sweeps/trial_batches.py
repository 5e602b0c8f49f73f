"""Trials that find the batch sizes on which a module can be trained.

A module may refuse a batch only in training mode: batch normalization needs two values per channel, and ghost batch
normalization needs batches that its ghost size divides. The partial batch at the end of an epoch is never trained on,
so its size does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from noisescale.errors import BadInput, one_line
from noisescale.families import GhostBatchNorm, in_mode
from noisescale.named_inputs import Inputs, wide
from noisescale.seeding import seeded
from noisescale.store import AcceptedBatches
from noisescale.user_code import contained


def training_error(build: Callable[[], nn.Module], inputs: Inputs) -> str | None:
    """Return the error of a forward pass in training mode, on one line, or None.

    Args:
        build: Builds the module anew, because the pass may change its buffers.
        inputs: The batch, shape [B, …].
    """
    try:
        with torch.no_grad(), seeded(0), contained():
            in_mode(build(), training=True)(wide(inputs).clone())
    except Exception as error:  # a user's module may raise anything
        return one_line(error)
    return None


def find_accepted_batches(build: Callable[[], nn.Module], inputs: Inputs, sizes: Sequence[int]) -> AcceptedBatches:
    """Find the smallest batch that a module accepts, and the ghost sizes of its layers.

    Args:
        build: Builds the module.
        inputs: The training inputs, shape [N, …].
        sizes: Batch sizes to try besides the powers of two, in examples.

    Returns:
        The accepted batch sizes. A module that accepts a batch is assumed to accept larger ones, except for the ghost
        sizes.

    Raises:
        BadInput: The module accepts none of the batches.
    """
    powers = (2**power for power in range(len(inputs).bit_length()))
    last_error = ""
    for size in sorted({*powers, *sizes}):
        if size > len(inputs):
            break
        error = training_error(build, inputs[:size])
        if error is None:
            return AcceptedBatches(size, _ghost_sizes(build), last_error)
        last_error = error
    got = f"{min(sizes)}, at which the model raises {last_error}"
    raise BadInput("grid.batch_size", "batches on which the model can be trained", got)


def _ghost_sizes(build: Callable[[], nn.Module]) -> tuple[int, ...]:
    with seeded(0):
        layers = build().modules()
    return tuple(sorted({layer.ghost_size for layer in layers if isinstance(layer, GhostBatchNorm)}))
