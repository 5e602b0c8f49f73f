from __future__ import annotations

import pytest
import torch
from torch import nn

from noisescale.errors import BadInput
from noisescale.families import ModelOptions, Normalization, complete, family_factory
from noisescale.families.convnet import convnet


@pytest.mark.parametrize(
    ("side", "strides", "last"),
    [(28, (1, 2, 1, 2, 1, 2, 1, 1), 4), (32, (1, 2, 1, 2, 1, 2, 1, 1), 4), (8, (1, 2, 1, 1, 1, 1, 1, 1), 4)],
)
def test_every_second_convolution_halves_the_image_down_to_four_pixels(
    side: int, strides: tuple[int, ...], last: int
) -> None:
    module = convnet(6, (2, side, side), 5, depth=8, activation="relu")
    assert isinstance(module, nn.Sequential)
    convolutions = [layer for layer in module if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [(stride, stride) for stride in strides]
    assert [layer.in_channels for layer in convolutions] == [2] + [6] * 7
    inputs = torch.randn(2, 2, side, side)
    assert module[:16](inputs).shape == (2, 6, last, last)
    assert module(inputs).shape == (2, 5)


def test_the_last_feature_map_is_averaged_over_its_pixels() -> None:
    module = convnet(6, (1, 12, 8), 5, depth=2, activation="tanh")
    assert isinstance(module, nn.Sequential)
    inputs = torch.randn(3, 1, 12, 8)
    features = module[:4](inputs)
    assert features.shape == (3, 6, 6, 4)
    torch.testing.assert_close(module(inputs), module[-1](features.mean((2, 3))))


@pytest.mark.parametrize("shape", [(1, 13, 8), (2, 40)])
@pytest.mark.parametrize("family", ["convnet", "resnet"])
def test_a_read_out_of_all_positions_takes_the_last_feature_map(family: str, shape: tuple[int, ...]) -> None:
    sizes = {"depth": 4} if family == "convnet" else {"blocks": (1, 1, 1)}
    module = family_factory(ModelOptions(family, read_out="flatten", **sizes))(6, shape, 5)  # type: ignore[arg-type]
    assert isinstance(module, nn.Sequential)
    inputs = torch.randn(3, *shape)
    features = module[:-2](inputs)
    assert features.dim() == len(shape) + 1 and features.shape[2] > 1
    torch.testing.assert_close(module(inputs), module[-1](features.flatten(1)))
    mean = family_factory(ModelOptions(family, **sizes))(6, shape, 5)  # type: ignore[arg-type]
    assert isinstance(mean, nn.Sequential) and mean[-1].in_features == features.shape[1]


def test_each_family_has_its_read_outs() -> None:
    with pytest.raises(BadInput, match=r"model\.read_out: one of 'mean', 'flatten' for family 'convnet'"):
        complete(ModelOptions("convnet", read_out="tokens"))
    with pytest.raises(BadInput, match=r"model\.read_out: one of 'tokens', 'mean' for family 'transformer'"):
        complete(ModelOptions("transformer", read_out="flatten"))


def test_the_order_is_convolution_normalization_activation() -> None:
    module = convnet(6, (1, 8, 8), 5, depth=2, activation="relu", normalization=Normalization("batch"))
    kinds = [type(layer) for layer in module.children()]
    layer = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [*layer, *layer, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]
    # 9·(1 + 6)·6 weights, a gain and a shift for each channel, and the read-out.
    assert sum(tensor.numel() for tensor in module.parameters()) == 9 * 7 * 6 + 2 * 2 * 6 + 7 * 5


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((40,), r"model\.family: .*vectors.*Got: 'convnet' for inputs of shape \[40\]"),
        ((3, 1, 8), "at least 2 positions along every axis"),
    ],
)
def test_inputs_without_enough_positions_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        convnet(6, shape, 5, depth=2, activation="relu")
