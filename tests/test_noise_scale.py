from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.noise_scale import batch_for_noise, noise_per_rate, noise_scale, rate_for_noise


def test_values_by_hand() -> None:
    assert noise_scale(0.5, 32, 4000, 0.9) == pytest.approx(0.5 * 124 / 0.1)
    assert noise_scale(0.5, 32, 4000, 0.9, replacement=True) == pytest.approx(0.5 * 125 / 0.1)


def test_the_short_form_is_twice_too_large_at_half_of_the_data() -> None:
    exact, short = (noise_scale(1.0, 500, 1000, replacement=replacement) for replacement in (False, True))
    assert short == pytest.approx(2 * exact)


def test_a_full_batch_has_no_noise() -> None:
    assert noise_scale(1.0, 100, 100, 0.5) == 0.0


@given(st.floats(1e-6, 1e3), st.integers(1, 999), st.floats(0.0, 0.99), st.booleans())
def test_the_inverses_give_rate_and_batch_back(rate: float, batch: int, momentum: float, replacement: bool) -> None:
    noise = noise_scale(rate, batch, 1000, momentum, replacement=replacement)
    assert rate_for_noise(noise, batch, 1000, momentum, replacement=replacement) == pytest.approx(rate, rel=1e-12)
    assert batch_for_noise(noise, rate, 1000, momentum, replacement=replacement) == pytest.approx(batch, rel=1e-9)


@given(st.floats(1e-6, 1e3), st.integers(1, 500), st.floats(0.0, 0.99))
def test_with_replacement_it_is_the_temperature_times_the_examples(rate: float, batch: int, momentum: float) -> None:
    noise = noise_scale(rate, batch, 1000, momentum, replacement=True)
    assert noise == pytest.approx(1000 * rate / (batch * (1 - momentum)), rel=1e-12)


def test_columns_of_a_table_are_taken_whole() -> None:
    sizes = [4.0, 32.0, 1000.0]
    by_hand = [noise_per_rate(size, 4000) for size in sizes]
    assert noise_per_rate(np.array(sizes), 4000).tolist() == by_hand
    assert noise_per_rate(pd.Series(sizes), 4000).tolist() == by_hand
