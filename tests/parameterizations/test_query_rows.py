"""A factor in the query rows changes attention's 1/√d_head to 1/d_head, for named and for recognized rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.parameterizations import build_table, describe_parameters
from noisescale.training import ParameterGroups, parameterize

# In float64 over 50 steps, both compute the same sums in another order. The measured difference is 2e-15.
TOLERANCE = 1e-12
STEPS = 50
HEADS, TOKENS, INPUTS, OUTPUTS = 2, 5, 3, 4
WIDTH, BASE, RATE = 24, 8, 0.03
RATIO = WIDTH / BASE


class Attention(nn.Module):
    """Self-attention over tokens with a read-out. The scores are divided by d_head to the power `power`.

    At ½ it is what everybody writes, at 1 what mup asks for, equal to the other at the base width.
    """

    def __init__(self, width: int, fused: bool, power: float = 0.5) -> None:
        super().__init__()
        head, base_head = width / HEADS, BASE / HEADS
        self.scale = head**-0.5 if power == 0.5 else base_head**0.5 / head
        self.embed = nn.Linear(INPUTS, width)
        if fused:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.read_out = nn.Linear(width, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        parts = self.qkv(x).chunk(3, -1) if hasattr(self, "qkv") else (self.query(x), self.key(x), self.value(x))
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(-2, -3) for part in parts)
        x = ((q @ k.mT * self.scale).softmax(-1) @ v).transpose(-2, -3).flatten(-2)
        return self.read_out(x.mean(-2))  # type: ignore[no-any-return]


class TorchAttention(nn.Module):
    """The same network with torch's `nn.MultiheadAttention`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(INPUTS, width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.read_out = nn.Linear(width, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.read_out(x.mean(-2))  # type: ignore[no-any-return]


FUSED, SEPARATE = ("qkv.weight[:1/3]",), ("query.weight",)


def train(model: nn.Module, groups: Iterable[dict[str, Any]], momentum: float, nesterov: bool, parts: int = 1) -> None:
    """Take some steps. The gradient of every batch is accumulated over `parts` backward passes."""
    optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov)
    generator = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        x = torch.randn(8, TOKENS, INPUTS, generator=generator, dtype=torch.float64)
        y = torch.randint(OUTPUTS, (8,), generator=generator)
        optimizer.zero_grad()
        for part in range(parts):
            loss = nn.functional.cross_entropy(model(x[part::parts]), y[part::parts])
            (loss / parts).backward()
        optimizer.step()


def made(fused: bool, decay: float = 0.0, query_rows: tuple[str, ...] | None = None) -> ParameterGroups:
    rows = (FUSED if fused else SEPARATE) if query_rows is None else query_rows
    model, base = Attention(WIDTH, fused).double(), Attention(BASE, fused)
    return parameterize(model, base, "mup", RATE, weight_decay=decay, query_rows=rows)


@pytest.mark.parametrize("decay", [0.0, 0.02])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("fused", [False, True])
def test_naming_query_rows_gives_the_attention_of_mup(
    fused: bool, momentum: float, nesterov: bool, decay: float
) -> None:
    groups = made(fused, decay)
    by_rows, by_power = groups.model, Attention(WIDTH, fused, power=1.0).double()
    # The second network computes the same function: its queries are multiplied by √r and its scores by 1/√r. It is
    # trained with mup without query rows.
    plain = parameterize(by_power, Attention(BASE, fused), "mup", RATE, weight_decay=decay)
    queries = slice(0, WIDTH)
    name = "qkv" if fused else "query"
    with torch.no_grad():
        for key, tensor in by_power.named_parameters():
            tensor.copy_(by_rows.get_parameter(key))
        for kind in ("weight", "bias"):
            by_power.get_parameter(f"{name}.{kind}")[queries] *= math.sqrt(RATIO)
    start = by_rows.get_parameter(f"{name}.weight").detach().clone()
    train(by_rows, groups, momentum, nesterov)
    train(by_power, plain, momentum, nesterov)
    assert not torch.allclose(start[queries], by_rows.get_parameter(f"{name}.weight")[queries], rtol=1e-2)
    for key, tensor in by_power.named_parameters():
        expected = tensor.detach().clone()
        if key.startswith(name):
            expected[queries] /= math.sqrt(RATIO)
        torch.testing.assert_close(by_rows.get_parameter(key).detach(), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_named_rows_start_smaller_than_other_rows() -> None:
    named, plain = made(True).model, made(True, query_rows=()).model
    ratio = named.get_parameter("qkv.weight") / plain.get_parameter("qkv.weight")
    torch.testing.assert_close(ratio[:WIDTH], torch.full_like(ratio[:WIDTH], RATIO**-0.5))
    assert torch.equal(ratio[WIDTH:], torch.ones_like(ratio[WIDTH:]))


def test_query_rows_of_torchs_attention_are_recognized_and_may_be_named() -> None:
    def parameters(query_rows: tuple[str, ...]) -> dict[str, Tensor]:
        groups = parameterize(TorchAttention(WIDTH).double(), TorchAttention(BASE), "mup", RATE, query_rows=query_rows)
        train(groups.model, groups, 0.9, False)
        return dict(groups.model.named_parameters())

    unnamed, named = parameters(()), parameters(("*.in_proj_weight[:1/3]",))
    for key in unnamed:
        assert torch.isfinite(unnamed[key]).all() and torch.equal(unnamed[key], named[key])
    described = describe_parameters(TorchAttention(WIDTH), TorchAttention(BASE), TorchAttention(BASE))
    rows = {row.name: row for row in build_table("mup", described)}
    for key in ("attention.in_proj_weight", "attention.in_proj_bias"):
        assert rows[key].query_factor == pytest.approx(RATIO**-0.5)
        assert rows[key].parameter.query_rows == ((0, WIDTH),)
    assert (rows["attention.in_proj_weight"].multiplier, rows["attention.in_proj_bias"].multiplier) == (1.0, RATIO)
    assert rows["attention.out_proj.weight"].query_factor == 1.0


def log_change_of_scores(width: int, seed: int, query_rows: tuple[str, ...]) -> float:
    """Return the log of the root mean square change of the attention scores in eight steps."""
    model = Attention(width, True).double()
    groups = parameterize(model, Attention(BASE, True), "mup", 0.05, query_rows=query_rows, seed=seed)
    optimizer = torch.optim.SGD(groups)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, TOKENS, INPUTS, generator=generator, dtype=torch.float64)
    y = torch.randint(OUTPUTS, (16,), generator=generator)

    def scores() -> Tensor:
        q, k, _ = (part.unflatten(-1, (HEADS, -1)).transpose(-2, -3) for part in model.qkv(model.embed(x)).chunk(3, -1))
        return (q @ k.mT * model.scale).detach()

    before = scores()
    for _ in range(8):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return float((scores() - before).square().mean().log() / 2)


def test_the_change_of_scores_grows_with_width_only_if_no_rows_are_named() -> None:
    """Changes of queries and keys are aligned, so their product is O(d). Only after division by √d it grows, as √n.

    Products of a change with an unchanged factor decrease as n^−½, so the slope without growth lies below 0.
    """
    widths, slopes = (32, 64, 128, 256), {}
    for query_rows in (FUSED, ()):
        means = [np.mean([log_change_of_scores(width, seed, query_rows) for seed in range(8)]) for width in widths]
        slopes[query_rows] = np.polyfit(np.log(widths), means, 1)[0]
    assert -0.4 < slopes[FUSED] < 0.1
    assert slopes[()] == pytest.approx(0.5, abs=0.15)


def test_heads_of_fixed_size_in_torchs_attention_need_no_factor() -> None:
    modules = [nn.Sequential(nn.MultiheadAttention(width, width // 4), nn.Linear(width, 2)) for width in (16, 8)]
    described = describe_parameters(modules[0], modules[1], modules[1])
    assert all(row.query_factor == 1.0 for row in build_table("mup", described))


def test_other_parameterizations_keep_the_modules_attention() -> None:
    for name in ("standard", "ntk", "improved_standard", "own"):
        base = Attention(BASE, True)
        table = build_table(name, describe_parameters(Attention(WIDTH, True), base, base, FUSED))
        assert all(row.query_factor == 1.0 for row in table)


def test_accumulated_gradients_are_scaled_once() -> None:
    whole, parts = made(True), made(True)
    train(whole.model, whole, 0.9, False)
    train(parts.model, parts, 0.9, False, parts=4)
    for actual, expected in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_parameterizing_again_replaces_the_hooks() -> None:
    once, again = made(True), made(True)
    twice = parameterize(again.model, Attention(BASE, True), "mup", RATE, query_rows=FUSED)
    train(once.model, once, 0.0, False)
    train(again.model, twice, 0.0, False)
    for actual, expected in zip(again.model.parameters(), once.model.parameters(), strict=True):
        assert torch.equal(actual, expected)
    parameterize(again.model, Attention(BASE, True), "ntk", 0.2)
    weight = again.model.get_parameter("qkv.weight")
    (gradient,) = torch.autograd.grad((weight * 2).sum(), weight)
    assert torch.equal(gradient, torch.full_like(weight, 2.0))


def test_several_ranges_name_the_queries_of_interleaved_heads() -> None:
    interleaved = tuple(f"qkv.weight[{2 * head}/4:{2 * head + 1}/4]" for head in range(2))
    base = Attention(BASE, True)
    described = {
        parameter.name: parameter for parameter in describe_parameters(Attention(WIDTH, True), base, base, interleaved)
    }
    rows = ((0, 18), (36, 54))
    assert described["qkv.weight"].query_rows == described["qkv.bias"].query_rows == rows
    assert described["qkv.weight"].query_ratio == RATIO


@pytest.mark.parametrize(
    ("pattern", "required"),
    [
        ("qvk.weight[:1/3]", "the name of a parameter of the model; it has embed.weight"),
        ("qkv.weight[:1/5]", "whole rows of 'qkv.weight', which has 72 rows"),
        ("qkv.weight[:24]", "0 <= from < to <= 1"),
        ("qkv.weight[2/3:1/3]", "0 <= from < to <= 1"),
        ("qkv.weight[a:b]", "fractions of the tensor's rows"),
        ("qkv.weight[:1/3", "fractions of the tensor's rows"),
        ("qkv.bias[:1/3]", "its bias is included"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(pattern: str, required: str) -> None:
    with pytest.raises(BadInput, match="model.query_rows") as refused:
        made(True, query_rows=(pattern,))
    assert required in str(refused.value)
    assert repr(pattern) in str(refused.value)


def test_tensors_without_query_rows_cannot_absorb_the_factor() -> None:
    class Normalized(Attention):
        def __init__(self, width: int) -> None:
            super().__init__(width, True)
            self.norm = nn.LayerNorm(width)

    with pytest.raises(BadInput, match="no other tensor can take"):
        parameterize(Normalized(WIDTH), Normalized(BASE), "mup", RATE, query_rows=("norm.weight",))
