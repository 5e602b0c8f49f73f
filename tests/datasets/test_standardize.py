from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.datasets.standardize import measure_channels, measure_columns, standardize
from noisescale.errors import BadInput

# float32 has seven digits, and sums over a few hundred entries lose few of them.
TOLERANCE = 1e-5


@pytest.mark.parametrize(("shape", "axes"), [((50, 7), (0, 1)), ((20, 3, 4, 5), (0, 2, 3))])
@given(shift=st.floats(-1e6, 1e6), spread=st.floats(1e-2, 1e6))
def test_standardized_training_inputs_have_mean_0_and_standard_deviation_1(
    shape: tuple[int, ...], axes: tuple[int, ...], shift: float, spread: float
) -> None:
    x = shift + spread * np.random.default_rng(0).standard_normal(shape)
    standardized = standardize(x, measure_channels(x, "own"), "own x_train")
    assert standardized.dtype == np.float32
    assert standardized.shape == shape
    np.testing.assert_allclose(standardized.mean(axis=axes, dtype=np.float64), 0, atol=TOLERANCE)
    np.testing.assert_allclose(standardized.std(axis=axes, dtype=np.float64), 1, atol=TOLERANCE)


def test_other_inputs_are_scaled_by_the_training_set() -> None:
    scale = measure_channels(np.array([[0.0, 4.0]]), "own")
    np.testing.assert_array_equal(standardize(np.array([[2.0, 8.0]]), scale, "own x_test"), [[0.0, 3.0]])


def test_bytes_do_not_wrap_around() -> None:
    x = np.array([[0, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(standardize(x, measure_channels(x, "own"), "own x_train"), [[-1, 1]])


def test_constant_vectors_are_refused_even_if_rounding_hides_it() -> None:
    with pytest.raises(BadInput, match=r"own x_train: .*all entries are constant"):
        measure_channels(np.full((300, 3), 0.1), "own")


def test_a_constant_channel_is_named() -> None:
    images = np.random.default_rng(0).standard_normal((5, 3, 2, 2))
    images[:, 1] = 7
    with pytest.raises(BadInput, match="channel 1 is constant"):
        measure_channels(images, "own")


def test_inputs_too_large_for_a_standard_deviation_are_refused() -> None:
    with pytest.raises(BadInput, match="finite standard deviation"):
        measure_channels(np.array([[-1e200, 1e200]]), "own")


def test_entries_that_overflow_are_counted() -> None:
    scale = measure_channels(np.array([[0.0, 1e-30]]), "own")
    with pytest.raises(BadInput, match=r"own x_test: .*2 of 3"):
        standardize(np.array([[0.0, 1e30, -1e30]]), scale, "own x_test")


def test_each_column_has_a_scale_of_its_own_and_a_constant_column_becomes_zero() -> None:
    x = np.array([[1.0, 1e6, 7.0], [3.0, 3e6, 7.0]])
    scale = measure_columns(x, "own")
    np.testing.assert_allclose(standardize(x, scale, "own x_train"), [[-1, -1, 0], [1, 1, 0]], atol=TOLERANCE)
    np.testing.assert_allclose(
        standardize(np.array([[2.0, 5e6, 8.0]]), scale, "own x_test"), [[0, 3, 1]], atol=TOLERANCE
    )


def test_columns_are_refused_for_images_and_for_columns_that_overflow() -> None:
    with pytest.raises(BadInput, match=r"dataset.standardize: .*shape \[2, 1, 3\]"):
        measure_columns(np.zeros((2, 1, 3)), "own")
    with pytest.raises(BadInput, match="inf in column 1"):
        measure_columns(np.array([[0.0, -1e200], [1.0, 1e200]]), "own")
