"""Coordinate check of the transformer: how its scores of attention and its outputs change with width after a few steps.

With two heads, the vectors of a head have size d ∝ n. To first order in the rate, the step of the query weights changes
a score qᵀk/√d by c·γ·‖h‖²·‖k‖²/d, where ‖h‖² and ‖k‖² are O(n), c ∝ 1/n under mup, and γ = δᵀv is the gradient in the
score: a sum over n values of which δ has entries of size 1/n in random directions, n^−½. The scores thus change
by n^½ without the query rows, whose factor 1/d turns this into n^−½. Outputs are flat under mup, and grow with n under
standard, as in the other networks.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisescale.families import ModelOptions, family_factory
from noisescale.families.transformer import QUERY_ROWS
from noisescale.input_shapes import TokenShape
from noisescale.training import parameterize

WIDTHS, BASE, SEEDS, STEPS, RATE = (128, 256, 512), 16, 3, 5, 1e-3
LENGTH, KINDS, HEADS = 6, 8, 2
# Errors from finite widths and few seeds, as in the other coordinate checks.
TOLERANCE = 0.2


def build(width: int) -> nn.Module:
    options = ModelOptions("transformer", depth=1, heads=HEADS)
    return family_factory(options)(width, TokenShape((LENGTH,), KINDS), KINDS).double()


def scores_and_outputs(model: nn.Module, tokens: Tensor) -> list[Tensor]:
    parts: list[Tensor] = []
    hook = model.blocks[0].attention.qkv.register_forward_hook(  # type: ignore[index, union-attr]
        lambda _layer, _inputs, output: parts.append(output.detach())
    )
    with torch.no_grad():
        outputs = model(tokens)
    hook.remove()
    query, key, _ = parts[0].view(len(tokens), LENGTH, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    return [query @ key.mT / math.sqrt(query.shape[-1]), outputs]


def log_changes(name: str, rows: tuple[str, ...], width: int, seed: int) -> list[float]:
    model, base = build(width), build(BASE) if name == "mup" else None
    reference = build(2 * width)
    groups = parameterize(model, reference, name, RATE, base=base, seed=seed, query_rows=rows)
    optimizer, generator = torch.optim.SGD(groups), torch.Generator().manual_seed(seed)
    tokens, labels = (torch.randint(KINDS, (16, LENGTH), generator=generator) for _ in range(2))
    before = scores_and_outputs(model, tokens)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens).flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
    after = scores_and_outputs(model, tokens)
    return [float((new - old).square().mean().log() / 2) for new, old in zip(after, before, strict=True)]


def slopes(name: str, rows: tuple[str, ...]) -> np.ndarray:
    means = [np.mean([log_changes(name, rows, width, seed) for seed in range(SEEDS)], axis=0) for width in WIDTHS]
    return np.polyfit(np.log(WIDTHS), np.array(means), 1)[0]


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [("mup", QUERY_ROWS, (-0.5, 0.0)), ("mup", (), (0.5, 0.0)), ("standard", (), (1.0, 1.0))],
)
def test_scores_and_outputs_change_with_width_as_the_theory_says(
    name: str, rows: tuple[str, ...], expected: tuple[float, float]
) -> None:
    assert slopes(name, rows) == pytest.approx(np.array(expected), abs=TOLERANCE)
