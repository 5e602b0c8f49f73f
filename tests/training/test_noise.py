from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.training.noise import learning_rate_for_noise, noise_scale
from noisescale.training.sampling import SAMPLINGS

samplings = st.sampled_from(sorted(SAMPLINGS))


def test_values_by_hand() -> None:
    assert noise_scale(0.5, 32, 4000, 0.9, "epoch_shuffle") == pytest.approx(0.5 * 124 / 0.1)
    assert noise_scale(0.5, 32, 4000, 0.9, "subset") == pytest.approx(620)
    assert noise_scale(0.5, 32, 4000, 0.9, "with_replacement") == pytest.approx(0.5 * 125 / 0.1)


def test_the_short_form_is_twice_too_large_at_half_of_the_data() -> None:
    exact, short = (noise_scale(1.0, 500, 1000, 0.0, sampling) for sampling in ("subset", "with_replacement"))
    assert short == pytest.approx(2 * exact)


def test_a_full_batch_has_no_noise() -> None:
    assert noise_scale(1.0, 100, 100, 0.5, "epoch_shuffle") == 0.0


@given(st.floats(1e-6, 1e3), st.integers(1, 999), st.floats(0.0, 0.99), samplings)
def test_the_inverse_gives_the_rate_back(rate: float, batch: int, momentum: float, sampling: str) -> None:
    noise = noise_scale(rate, batch, 1000, momentum, sampling)
    assert learning_rate_for_noise(noise, batch, 1000, momentum, sampling) == pytest.approx(rate, rel=1e-12)


@given(st.floats(1e-6, 1e3), st.integers(1, 500), st.floats(0.0, 0.99))
def test_with_replacement_it_is_the_temperature_times_the_examples(rate: float, batch: int, momentum: float) -> None:
    noise = noise_scale(rate, batch, 1000, momentum, "with_replacement")
    assert noise == pytest.approx(1000 * rate / (batch * (1 - momentum)), rel=1e-12)
