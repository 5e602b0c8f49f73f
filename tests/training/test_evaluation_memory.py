"""What an evaluation holds at once does not grow with the data, the runs or a model's widest tensor."""

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
    """Every input attends to every other: tokens² numbers an example, in no module's output."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.embed, self.read_out, self.tokens = nn.Linear(1, width), nn.Linear(width, 4), tokens

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.unsqueeze(-1))
        scores = h @ h.mT
        # In a packed pass the runs are an axis that the module does not see.
        WIDEST.append(scores.numel())
        return self.read_out((torch.softmax(scores, -1) @ h).mean(1))


def test_scores_of_attention_bound_the_chunk(make_run: MakeRun, make_data: MakeData) -> None:
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


def test_the_widest_tensor_is_found() -> None:
    assert footprint(Scores(2, 50), torch.randn(3, 50)).largest == 50 * 50


@pytest.mark.parametrize(("numbers", "examples"), [(1, 131_072), (2048, 64), (10_000, 64), (2**20, 16), (2**30, 1)])
def test_chunks(numbers: int, examples: int) -> None:
    assert chunk_of(numbers, torch.zeros(1)) == examples
