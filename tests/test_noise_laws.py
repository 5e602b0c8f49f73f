"""The measures of noise against values by hand, and their inverses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.errors import BadInput
from noisescale.noise_laws import ADAM_NOISE, SGD_NOISE, NoiseLaw

N = 1000
MEASURES = [(SGD_NOISE, name) for name in SGD_NOISE.measures] + [(ADAM_NOISE, name) for name in ADAM_NOISE.measures]


def noise_scale(rate: float, batch: float, examples: float, momentum: float = 0.0, replacement: bool = False) -> float:
    return rate * SGD_NOISE.per_rate("noise_scale", batch, examples, momentum, replacement=replacement)


def test_values_by_hand() -> None:
    assert noise_scale(0.5, 32, 4000, 0.9) == pytest.approx(0.5 * 124 / 0.1)
    assert noise_scale(0.5, 32, 4000, 0.9, replacement=True) == pytest.approx(0.5 * 125 / 0.1)
    assert SGD_NOISE.per_rate("temperature", 32, 4000, 0.9) == pytest.approx(1 / (32 * 0.1))
    assert ADAM_NOISE.per_rate("adam_temperature", 64, 4000) == pytest.approx(1 / 8)


def test_the_form_with_replacement_is_twice_as_large_at_half_of_the_data() -> None:
    exact, short = (noise_scale(1.0, 500, N, replacement=replacement) for replacement in (False, True))
    assert short == pytest.approx(2 * exact)


def test_a_full_batch_has_no_noise() -> None:
    assert noise_scale(1.0, 100, 100, 0.5) == 0.0


@pytest.mark.parametrize("batch", [100, 150])
def test_no_rate_gives_noise_to_a_full_batch(batch: int) -> None:
    with pytest.raises(BadInput, match=rf"batch_size: below the 100 training examples.*no gradient noise.*{batch}"):
        SGD_NOISE.rate("noise_scale", 3.0, batch, 100, 0.5)
    assert SGD_NOISE.rate("noise_scale", 3.0, batch, 100, 0.5, replacement=True) == pytest.approx(1.5 * batch / 100)
    assert SGD_NOISE.rate("temperature", 3.0, batch, 100, 0.5) == pytest.approx(1.5 * batch)


@pytest.mark.parametrize(("law", "name"), MEASURES)
@given(st.floats(1e-6, 1e3), st.integers(1, 999), st.floats(0.0, 0.99), st.booleans())
def test_the_inverses_return_rate_and_batch(
    law: NoiseLaw, name: str, rate: float, batch: int, momentum: float, replacement: bool
) -> None:
    value = rate * law.per_rate(name, batch, N, momentum, replacement=replacement)
    assert law.rate(name, value, batch, N, momentum, replacement=replacement) == pytest.approx(rate, rel=1e-12)
    assert law.batch_size(name, value, rate, N, momentum, replacement=replacement) == pytest.approx(batch, rel=1e-9)


@given(st.floats(1e-6, 1e3), st.integers(1, 500), st.floats(0.0, 0.99))
def test_with_replacement_it_is_the_temperature_times_the_examples(rate: float, batch: int, momentum: float) -> None:
    temperature = rate * SGD_NOISE.per_rate("temperature", batch, N, momentum)
    assert noise_scale(rate, batch, N, momentum, replacement=True) == pytest.approx(N * temperature, rel=1e-12)


@pytest.mark.parametrize(("law", "name"), MEASURES)
def test_columns_of_a_table_are_taken_whole(law: NoiseLaw, name: str) -> None:
    sizes = [4.0, 32.0, 1000.0]
    by_hand = [law.per_rate(name, size, 4000) for size in sizes]
    assert law.per_rate(name, np.array(sizes), 4000).tolist() == by_hand
    assert law.per_rate(name, pd.Series(sizes), 4000).tolist() == by_hand


def test_a_measure_that_an_optimizer_lacks_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"adam_temperature\. Got: 'noise_scale'"):
        ADAM_NOISE.per_rate("noise_scale", 32, 4000)
