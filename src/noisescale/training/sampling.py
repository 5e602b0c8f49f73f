"""The examples that each step of each run sees: a function of the run's seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noisescale.parameterizations import stream

# Steps drawn at once where a block has no natural length. It changes only the number of generator calls.
FRESH_BLOCK = 64


def _epoch_shuffle(generator: torch.Generator, examples: int, batch: int, steps: int) -> Tensor:
    return torch.randperm(examples, generator=generator)


def _subset(generator: torch.Generator, examples: int, batch: int, steps: int) -> Tensor:
    return torch.cat([torch.randperm(examples, generator=generator)[:batch] for _ in range(steps)])


def _with_replacement(generator: torch.Generator, examples: int, batch: int, steps: int) -> Tensor:
    return torch.randint(examples, (steps * batch,), generator=generator)


# "epoch_shuffle": a new order each epoch, the last partial batch dropped; "subset": a fresh subset each step, without
# replacement; "with_replacement": independent examples.
SAMPLINGS: dict[str, Callable[[torch.Generator, int, int, int], Tensor]] = {
    "epoch_shuffle": _epoch_shuffle,
    "subset": _subset,
    "with_replacement": _with_replacement,
}


def index_block(
    sampling: str, seeds: Sequence[int], block: int, examples: int, batch: int, steps: int = FRESH_BLOCK
) -> Tensor:
    """Return the indices [R, L] of the examples of one block: an epoch, or a number of steps.

    The order of a run comes from its seed and the number of the block. It does not depend on the pack, and a resumed
    pack needs no generator state.

    Args:
        sampling: A name in `SAMPLINGS`.
        seeds: Seeds of the R runs.
        block: Number of the block, from 0.
        examples: N, the number of training examples.
        batch: B, in examples.
        steps: Length of the block in steps, where it has no natural length.
    """
    draw = SAMPLINGS[sampling]
    # Runs that differ only in their learning rate share their seed.
    orders = {seed: draw(stream(seed, "data order", block), examples, batch, steps) for seed in set(seeds)}
    return torch.stack([orders[seed] for seed in seeds])
