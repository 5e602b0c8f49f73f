"""The training examples of each step of a run. They depend only on the run's seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noisescale.parameterizations import stream

# Steps in one block, except with "epoch_shuffle", where a block is one epoch. The length of a block affects only the
# number of generator calls, not the distribution of the batches.
FRESH_BLOCK = 64


def _epoch_shuffle(generator: torch.Generator, examples: int, batch: int, steps: int) -> Tensor:
    return torch.randperm(examples, generator=generator)


def _subset(generator: torch.Generator, examples: int, batch: int, steps: int) -> Tensor:
    return torch.cat([torch.randperm(examples, generator=generator)[:batch] for _ in range(steps)])


def _with_replacement(generator: torch.Generator, examples: int, batch: int, steps: int) -> Tensor:
    return torch.randint(examples, (steps * batch,), generator=generator)


# "epoch_shuffle" draws a new order for each epoch, and the last partial batch is dropped. "subset" draws a new subset
# without replacement for each step. "with_replacement" draws examples independently.
SAMPLINGS: dict[str, Callable[[torch.Generator, int, int, int], Tensor]] = {
    "epoch_shuffle": _epoch_shuffle,
    "subset": _subset,
    "with_replacement": _with_replacement,
}


def index_block(
    sampling: str, seeds: Sequence[int], block: int, examples: int, batch: int, steps: int = FRESH_BLOCK
) -> Tensor:
    """Return the indices of the examples of one block, shape [R, L]. A block is an epoch or a number of steps.

    The order of a run depends only on its seed and the number of the block. It is the same in every pack, and a resumed
    pack needs no stored generator state.

    Args:
        sampling: A name in `SAMPLINGS`.
        seeds: Seeds of the R runs.
        block: Number of the block, from 0.
        examples: N, the number of training examples.
        batch: B, in examples.
        steps: Length of the block, in steps. Not used with "epoch_shuffle", whose blocks are epochs.
    """
    draw = SAMPLINGS[sampling]
    # Runs that differ only in their learning rate share their seed.
    orders = {seed: draw(stream(seed, "data order", block), examples, batch, steps) for seed in set(seeds)}
    return torch.stack([orders[seed] for seed in seeds])
