"""The normalized noise scale ḡ = g c/σ² of every layer, and its invariance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisescale.families.mlp import mlp
from noisescale.parameterizations import Table, build_table, describe_parameters, initial_variances
from noisescale.parameterizations.layers import layer_rows


def factory(width: int, input_shape: tuple[int, ...], num_classes: int) -> torch.nn.Module:
    return mlp(width, input_shape, num_classes, depth=2, activation="relu")


def table_and_variances(name: str, width: int, init_scale: float = 2.0) -> tuple[Table, Mapping[str, float]]:
    module, reference = factory(width, (9,), 3), factory(width + 1, (9,), 3)
    table = build_table(name, describe_parameters(module, reference), init_scale)
    return table, initial_variances(table, factory, width, (9,), 3)


@given(st.integers(2, 64), st.floats(0.1, 10), st.floats(1e-3, 1e4))
def test_ntk_has_the_same_noise_scale_in_every_weight(width: int, init_scale: float, noise: float) -> None:
    rows = layer_rows(*table_and_variances("ntk", width, init_scale), noise)
    weights = [row for row in rows if row["layer"].endswith("weight")]
    assert len(weights) == 3
    for row in weights:
        assert row["normalized_noise_scale"] == pytest.approx(noise, rel=1e-12)


@given(st.integers(2, 64), st.floats(0.1, 10), st.floats(1e-3, 1e4))
def test_standard_has_noise_times_fan_in(width: int, init_scale: float, noise: float) -> None:
    rows = layer_rows(*table_and_variances("standard", width, init_scale), noise)
    for row, fan_in in zip([row for row in rows if row["layer"].endswith("weight")], (9, width, width), strict=True):
        assert row["fan_in"] == fan_in
        assert row["normalized_noise_scale"] == pytest.approx(noise * fan_in / init_scale, rel=1e-12)


@given(st.floats(0.01, 100))
def test_the_normalized_noise_scale_is_invariant_under_rescaling_of_weights(factor: float) -> None:
    # With W = mθ, the standard deviation of θ is σ/m and its multiplier is c/m².
    table, variances = table_and_variances("standard", 8)
    scaled = tuple(
        replace(row, init_std=row.init_std / factor, multiplier=row.multiplier / factor**2)
        for row in table
        if row.init_std
    )
    before = {row["layer"]: row["normalized_noise_scale"] for row in layer_rows(table, variances, 3.0)}
    for row in layer_rows(scaled, variances, 3.0):
        assert row["normalized_noise_scale"] == pytest.approx(before[row["layer"]], rel=1e-12)


@given(st.integers(2, 64), st.integers(2, 16), st.floats(0.1, 10), st.floats(1e-3, 1e4))
def test_mup_grows_with_width_and_improved_standard_stays_at_the_base(
    width: int, base: int, init_scale: float, noise: float
) -> None:
    modules = [mlp(size, (9,), 3, depth=2, activation="relu") for size in (width, width + 1, base)]
    expected = {
        "standard": (9, width, width),
        # The multiplier of the first layer grows, although its fan-in does not.
        "mup": (9 * width / base, width, width),
        # g·N_base/σ0², where N_base is the base width.
        "improved_standard": (9, base, base),
    }
    for name, noises in expected.items():
        table = build_table(name, describe_parameters(*modules), init_scale)
        rows = layer_rows(table, {}, noise)
        weights = [row for row in rows if row["layer"].endswith("weight")]
        assert [row["is_reference"] for row in weights] == [False, False, True]
        for row, factor in zip(weights, noises, strict=True):
            assert row["normalized_noise_scale"] == pytest.approx(noise * factor / init_scale, rel=1e-12)


def test_own_uses_the_variance_of_the_module_and_not_of_a_seed() -> None:
    table, variances = table_and_variances("own", 8)
    for row, fan_in in zip(layer_rows(table, variances, 3.0), (9, 9, 8, 8, 8, 8), strict=True):
        # torch draws weights and biases uniformly within ±1/√d; 1 % is the error for a bias of three numbers.
        assert row["init_variance"] == pytest.approx(1 / (3 * fan_in), rel=0.01)
        assert row["normalized_noise_scale"] == pytest.approx(3.0 / row["init_variance"], rel=1e-12)


def test_one_layer_is_the_reference_and_zero_biases_have_no_noise_scale() -> None:
    rows = layer_rows(*table_and_variances("ntk", 8), 3.0)
    assert [row["layer"] for row in rows if row["is_reference"]] == ["5.weight"]
    for row in rows:
        assert math.isnan(row["normalized_noise_scale"]) == row["layer"].endswith("bias")
