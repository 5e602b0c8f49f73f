from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisescale.training.sampling import FRESH_BLOCK, SAMPLINGS, index_block


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**40))
def test_an_epoch_shows_every_example_once(examples: int, batch: int, block: int, seed: int) -> None:
    order = index_block("epoch_shuffle", [seed], block, examples, min(batch, examples))
    assert order.shape == (1, examples)
    assert torch.equal(order[0].sort().values, torch.arange(examples))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_order_depends_only_on_the_seed_and_the_block(sampling: str) -> None:
    together = index_block(sampling, [3, 8, 3, 5], 2, 50, 7)
    assert torch.equal(together[0], together[2])
    for position, seed in enumerate((3, 8, 3, 5)):
        assert torch.equal(together[position], index_block(sampling, [seed], 2, 50, 7)[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, index_block(sampling, [3, 8, 3, 5], 3, 50, 7))
    assert together.shape[1] == (50 if sampling == "epoch_shuffle" else 7 * FRESH_BLOCK)


def test_examples_are_repeated_with_replacement_but_not_in_a_subset() -> None:
    subset = index_block("subset", [0], 0, 30, 20).view(-1, 20)
    assert all(len(step.unique()) == 20 for step in subset)
    assert len({tuple(step.sort().values.tolist()) for step in subset}) == len(subset)
    repeated = index_block("with_replacement", [0], 0, 30, 20).view(-1, 20)
    assert any(len(step.unique()) < 20 for step in repeated)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_example_is_equally_likely(sampling: str) -> None:
    blocks = torch.cat([index_block(sampling, [1], block, 10, 5).flatten() for block in range(400)])
    counts = torch.bincount(blocks, minlength=10).double()
    expected = len(blocks) / 10
    # Four standard errors of a binomial count. Without replacement, the counts vary less.
    assert (counts - expected).abs().max() < 4 * expected**0.5
