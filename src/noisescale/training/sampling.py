"""Which examples each step of each run sees: a function of the run's seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noisescale.parameterizations import stream

# Steps drawn at once where a block has no natural length; it changes no result, only the number of generator calls.
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
    """Indices [R, L] of the examples of one block: an epoch's, or those of so many steps.

    Each run's order comes from its own stream of its own seed, so it does not depend on the pack, and a resumed pack
    needs no generator state: the block's number is enough.

    Args:
        sampling: A name in `SAMPLINGS`.
        seeds: The runs' seeds, R of them.
        block: The block's number, from 0.
        examples: N.
        batch: B.
        steps: Of the block, where it has no natural length.
    """
    draw = SAMPLINGS[sampling]
    # Runs of a pack that differ in their rate share their seed.
    orders = {seed: draw(stream(seed, "data order", block), examples, batch, steps) for seed in set(seeds)}
    return torch.stack([orders[seed] for seed in seeds])
