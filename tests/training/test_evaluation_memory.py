"""The memory of an evaluation does not grow with the data, the number of runs or the largest tensor of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from noisescale.training import PackTrainer
from noisescale.training.evaluation import chunk_of
from noisescale.training.memory import footprint

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun

WIDEST: list[int] = []


class Scores(nn.Module):
    """Attention whose scores, tokens² numbers for each example, are not the output of any module."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.embed, self.read_out, self.tokens = nn.Linear(1, width), nn.Linear(width, 4), tokens

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.unsqueeze(-1))
        scores = h @ h.mT
        # In a packed pass, the axis of the runs is hidden from the module.
        WIDEST.append(scores.numel())
        return self.read_out((torch.softmax(scores, -1) @ h).mean(1))


def test_attention_scores_determine_the_chunk(make_run: MakeRun, make_data: MakeData) -> None:
    tokens, data = 300, make_data((300,), examples=600)

    def factory(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Scores(width, tokens)

    runs = [make_run(train_size=600, width=2, steps=1, evaluations=1, seed=seed, batch_size=2) for seed in range(2)]
    trainer = PackTrainer(runs, data, factory, reference_width=4)
    WIDEST.clear()
    trainer.advance()
    bound = 2**24
    assert 0 < max(WIDEST) <= bound < 600 * tokens**2
    assert len(trainer.results()[0].curves["train_loss"]) == 2


def test_the_largest_tensor_is_measured() -> None:
    assert footprint(Scores(2, 50), torch.randn(3, 50)).largest == 50 * 50


@pytest.mark.parametrize(("numbers", "examples"), [(1, 131_072), (2048, 64), (10_000, 64), (2**20, 16), (2**30, 1)])
def test_the_size_of_chunks(numbers: int, examples: int) -> None:
    assert chunk_of(numbers, torch.zeros(1)) == examples
