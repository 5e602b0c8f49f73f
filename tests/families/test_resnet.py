from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import ModelOptions, Normalization, ResidualBlock, family_factory
from noisescale.families.resnet import resnet
from noisescale.parameterizations import build_table, describe_parameters, initial_parameters

BATCH = Normalization("batch")


def numbers(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def test_preresnet_32_has_the_parameters_of_the_paper() -> None:
    """Count parameters: a·b·k² for a convolution, two per channel for a normalization, and 10 outputs with biases."""
    stem = 27 * 16
    first = 5 * (2 * 9 * 16**2 + 2 * 2 * 16)
    second = 2 * 16 + 9 * 16 * 32 + 2 * 32 + 9 * 32**2 + 16 * 32 + 4 * (2 * 9 * 32**2 + 2 * 2 * 32)
    third = 2 * 32 + 9 * 32 * 64 + 2 * 64 + 9 * 64**2 + 32 * 64 + 4 * (2 * 9 * 64**2 + 2 * 2 * 64)
    expected = stem + first + second + third + 2 * 64 + 65 * 10
    assert expected == 466_714
    module = resnet(16, (3, 32, 32), 10, blocks=(5, 5, 5), stem=None, activation="relu", normalization=BATCH)
    assert numbers(module) == expected
    assert sum(isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) for layer in module.modules()) + 1 == 32


def test_wrn_16_4_has_the_parameters_of_the_paper() -> None:
    def stage(before: int, after: int) -> int:
        first = 2 * before + 9 * before * after + 2 * after + 9 * after**2 + before * after
        return first + 2 * after + 9 * after**2 + 2 * after + 9 * after**2

    expected = 27 * 16 + stage(16, 64) + stage(64, 128) + stage(128, 256) + 2 * 256 + 257 * 10
    assert math.isclose(expected, 2.75e6, rel_tol=0.01)  # "2.7 M" in Zagoruyko, Komodakis 2016 for depth 16, k = 4
    module = resnet(64, (3, 32, 32), 10, blocks=(2, 2, 2), stem=16, activation="relu", normalization=BATCH)
    assert numbers(module) == expected


@pytest.mark.parametrize("side", [8, 28, 32])
def test_stages_double_channels_and_halve_the_image(side: int) -> None:
    module = resnet(4, (3, side, side), 5, blocks=(1, 2, 1), stem=None, activation="relu", normalization=BATCH)
    shapes = []
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            block.register_forward_hook(lambda block, inputs, outputs: shapes.append(tuple(outputs.shape[1:])))
    assert module(torch.randn(2, 3, side, side)).shape == (2, 5)
    halves = [side, -(-side // 2), -(-side // 4)]
    assert shapes == [(4, halves[0], halves[0]), *[(8, halves[1], halves[1])] * 2, (16, halves[2], halves[2])]


def test_a_block_adds_shortcut_and_branch() -> None:
    module = resnet(4, (3, 8, 8), 5, blocks=(1, 1), stem=None, activation="relu", normalization=BATCH).eval()
    plain, projecting = (block for block in module.modules() if isinstance(block, ResidualBlock))
    assert plain.projection is None and projecting.projection is not None
    x = torch.randn(2, 4, 8, 8)
    branch = plain.conv2(plain.norm2(plain.conv1(plain.norm1(x).relu())).relu())
    torch.testing.assert_close(plain(x), x + branch)
    active = projecting.norm1(x).relu()
    branch = projecting.conv2(projecting.norm2(projecting.conv1(active)).relu())
    torch.testing.assert_close(projecting(x), projecting.projection(active) + branch)


def test_with_a_stem_the_first_block_has_a_projection_at_every_width() -> None:
    """Otherwise a network whose width equals the stem would have other parameters than at other widths."""
    names = [
        [name for name, _ in family_factory(ModelOptions("resnet", stem=8))(width, (1, 8, 8), 3).named_parameters()]
        for width in (4, 8, 16)
    ]
    assert names[0] == names[1] == names[2]
    assert any("projection" in name for name in names[0])


def losses_of(blocks: tuple[int, ...], rate: float, steps: int, skip_init: bool) -> list[float]:
    """Return the training losses of a network without normalization. Without SkipInit, every branch has the scale 1."""
    factory = family_factory(ModelOptions("resnet", blocks=blocks))
    module = factory(8, (1, 8, 8), 4)
    start = initial_parameters(
        build_table("standard", describe_parameters(module, factory(16, (1, 8, 8), 4))), module, 0
    )
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, (32,), generator=generator)
    inputs = torch.randn(32, 1, 8, 8, generator=generator)
    inputs = inputs + torch.eye(4)[labels].repeat_interleave(16, 1).view(-1, 1, 8, 8)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            tensor.copy_(start[name])
            if name.endswith("branch_scale") and not skip_init:
                tensor.fill_(1.0).requires_grad_(False)
    optimizer = torch.optim.SGD([tensor for tensor in module.parameters() if tensor.requires_grad], rate)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(module(inputs), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def test_a_deep_net_without_normalization_trains_because_of_skip_init() -> None:
    deep, chance = (24,), math.log(4)
    with_it = losses_of(deep, 0.1, 30, skip_init=True)
    assert with_it[0] < 2 * chance
    assert with_it[-1] < 0.9 * chance
    for rate in (1e-1, 1e-3, 1e-5):
        without = losses_of(deep, rate, 15, skip_init=False)
        assert without[0] > 100 * chance
        assert not without[-1] < 2 * chance  # The loss is far above chance, or NaN.


@pytest.mark.parametrize("kind", ["none", "batch"])
def test_branch_scales_exist_only_without_normalization_and_start_at_zero(kind: str) -> None:
    module = family_factory(ModelOptions("resnet", normalization=kind))(4, (1, 8, 8), 3)
    scales = [tensor for name, tensor in module.named_parameters() if name.endswith("branch_scale")]
    assert len(scales) == (2 if kind == "none" else 0)
    assert not any(scale.any() for scale in scales)


@pytest.mark.parametrize(
    ("shape", "blocks", "message"),
    [
        ((40,), (1,), r"model\.family: .*Got: 'resnet' for inputs of shape \[40\]"),
        ((1, 8, 8), (1, 1, 1, 1), "at least 16 positions along every axis"),
        ((1, 8, 8), (), r"model\.blocks"),
        ((1, 8, 8), (1, 0), r"model\.blocks"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(
    shape: tuple[int, ...], blocks: tuple[int, ...], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        resnet(4, shape, 5, blocks=blocks, stem=None, activation="relu")
