"""The variance of a module's own initial values is one number for all seeds, and the one that its initializer implies.

The tolerance of 0.2 % is twice the standard error that the draws aim at.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisescale.parameterizations import Table, build_table, describe_parameters, initial_variances
from noisescale.parameterizations.initial_variance import MAX_DRAWS, _variances
from noisescale.parameterizations.layers import layer_rows

Initializer = Callable[[Tensor], object]
Build = Callable[[int, tuple[int, ...], int], nn.Module]
SHAPE, CLASSES = (9,), 10


def factory_with(initialize: Initializer) -> Build:
    def factory(width: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        hidden, read_out = nn.Linear(*input_shape, width), nn.Linear(width, num_classes)
        for layer in (hidden, read_out):
            with torch.no_grad():
                initialize(layer.weight)
        return nn.Sequential(hidden, nn.ReLU(), read_out)

    return factory


def own_table(factory: Build, width: int) -> Table:
    modules = (factory(size, SHAPE, CLASSES) for size in (width, 2 * width))
    return build_table("own", describe_parameters(*modules))


def read_out_variance(factory: Build, width: int) -> float:
    return initial_variances(own_table(factory, width), factory, width, SHAPE, CLASSES)["2.weight"]


@pytest.mark.parametrize("width", [8, 16, 512])
@pytest.mark.parametrize(
    ("initialize", "implied"),
    [
        (lambda weight: None, lambda width: 1 / (3 * width)),  # torch's default, uniform within ±1/√d
        (nn.init.xavier_uniform_, lambda width: 2 / (width + CLASSES)),
        (nn.init.xavier_normal_, lambda width: 2 / (width + CLASSES)),
        (lambda weight: nn.init.trunc_normal_(weight, std=0.02), lambda width: 0.02**2),
        (nn.init.orthogonal_, lambda width: 1 / max(width, CLASSES)),
        (lambda weight: weight.copy_(torch.randn(weight.shape) / 3), lambda width: 1 / 9),
        (lambda weight: weight.copy_(torch.normal(1.0, 0.3, weight.shape)), lambda width: 0.09),
        (lambda weight: weight.copy_(2 * torch.rand(weight.shape)), lambda width: 1 / 3),
    ],
)
def test_the_variance_is_the_one_that_the_initializer_implies(
    initialize: Initializer, implied: Callable[[int], float], width: int
) -> None:
    assert read_out_variance(factory_with(initialize), width) == pytest.approx(implied(width), rel=0.002)


def test_numbers_from_elsewhere_are_averaged_over_draws() -> None:
    def numpy_normal(weight: Tensor) -> None:
        generator = np.random.default_rng(int(torch.randint(1 << 30, (1,))))
        weight.copy_(torch.from_numpy(generator.normal(size=tuple(weight.shape))))

    # 48 draws of 160 independent normal numbers; four standard errors √(2/n).
    tolerance = 4 * math.sqrt(2 / (MAX_DRAWS * 16 * CLASSES))
    assert read_out_variance(factory_with(numpy_normal), 16) == pytest.approx(1.0, rel=tolerance)


def test_numbers_of_a_generator_that_the_factory_passes_are_not_changed() -> None:
    def fixed(weight: Tensor) -> None:
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))

    draw = torch.randn((CLASSES, 8), generator=torch.Generator().manual_seed(3)).double()
    assert read_out_variance(factory_with(fixed), 8) == pytest.approx(float(draw.var(correction=0)), rel=1e-9)


def test_a_factory_that_fails_under_stratified_numbers_is_drawn_plainly() -> None:
    def refuses_modes(weight: Tensor) -> None:
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            raise RuntimeError("no modes")
        nn.init.constant_(weight, 2.0)
        weight[0] = 0.0

    assert read_out_variance(factory_with(refuses_modes), 8) == pytest.approx(4 * 0.1 * 0.9, rel=1e-9)


def test_a_read_out_that_starts_at_zero_has_no_normalized_noise_scale() -> None:
    factory = factory_with(nn.init.zeros_)
    table = own_table(factory, 8)
    variances = initial_variances(table, factory, 8, SHAPE, CLASSES)
    assert variances["2.weight"] == 0.0
    (row,) = (row for row in layer_rows(table, variances, 3.0) if row["is_reference"])
    assert math.isnan(row["normalized_noise_scale"])


def test_the_draws_leave_the_random_state_and_are_made_once() -> None:
    calls = []
    inner = factory_with(nn.init.xavier_normal_)

    def counting(width: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        calls.append(width)
        return inner(width, input_shape, num_classes)

    table = own_table(inner, 8)
    state = torch.get_rng_state()
    first = initial_variances(table, counting, 8, SHAPE, CLASSES)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(calls) == MAX_DRAWS
    assert initial_variances(table, counting, 8, SHAPE, CLASSES) == first
    assert len(calls) == MAX_DRAWS
    # Another process, which has no cache and another random state, gets the same numbers to the bit.
    _variances.cache_clear()
    torch.manual_seed(99)
    assert initial_variances(table, counting, 8, SHAPE, CLASSES) == first
    assert len(calls) == 2 * MAX_DRAWS
    assert initial_variances(build_table("ntk", [row.parameter for row in table]), counting, 8, SHAPE, CLASSES) == {}
