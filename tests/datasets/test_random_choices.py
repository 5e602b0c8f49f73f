from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisescale.datasets.random_choices import choose_subset, random_stream, redraw_labels, split_validation
from noisescale.errors import BadInput

SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS, sizes=st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_subsets_are_nested_and_contain_no_example_twice(seed: int, sizes: tuple[int, int]) -> None:
    small, large = (choose_subset(61, size, "key", random_stream(seed, "subset")) for size in sorted(sizes))
    assert len(set(large.tolist())) == max(sizes)
    assert set(small.tolist()) <= set(large.tolist()) <= set(range(61))


@pytest.mark.parametrize("size", [None, 5])
def test_the_whole_set_keeps_its_order(size: int | None) -> None:
    assert choose_subset(5, size, "key", random_stream(0, "subset")).tolist() == [0, 1, 2, 3, 4]


def test_a_subset_larger_than_the_data_is_refused_by_key() -> None:
    with pytest.raises(BadInput, match=r"dataset\.train_size: must be at most 5.* Got: 6\."):
        choose_subset(5, 6, "dataset.train_size", random_stream(0, "subset"))


@given(seed=SEEDS, examples=st.integers(2, 200), fraction=st.floats(0, 1, exclude_max=True))
def test_a_split_keeps_every_example_once(seed: int, examples: int, fraction: float) -> None:
    try:
        train, validation = split_validation(examples, fraction, random_stream(seed, "split"))
    except BadInput:
        assert fraction > 0
        assert round(fraction * examples) in (0, examples)
        return
    assert sorted([*train, *validation]) == list(range(examples))
    assert len(validation) == round(fraction * examples)


@given(seed=SEEDS, examples=st.integers(1, 200), fraction=st.floats(0, 1, exclude_max=True))
def test_label_noise_draws_exactly_the_stated_number_of_labels(seed: int, examples: int, fraction: float) -> None:
    outside_the_classes = np.full(examples, -1)
    noisy = redraw_labels(outside_the_classes, fraction, 3, random_stream(seed, "noise"))
    assert (noisy != -1).sum() == round(fraction * examples)
    assert set(noisy.tolist()) <= {-1, 0, 1, 2}


def test_label_noise_is_uniform_over_all_classes_including_the_true_class() -> None:
    labels = np.zeros(40_000, dtype=np.int64)
    noisy = redraw_labels(labels, 0.5, 4, random_stream(0, "noise"))
    counts = np.bincount(noisy, minlength=4) - [20_000, 0, 0, 0]
    # Each count is binomial(20,000, 1/4), with standard deviation 61.
    assert np.abs(counts - 5_000).max() < 4 * 61
    assert (labels == 0).all()


def test_labels_redrawn_at_little_noise_are_the_same_at_more_noise() -> None:
    labels = np.full(1_000, -1)
    less, more = (redraw_labels(labels, fraction, 10, random_stream(3, "noise")) for fraction in (0.2, 0.6))
    assert (more[less != -1] == less[less != -1]).all()


def test_streams_of_different_purposes_and_seeds_differ() -> None:
    draws = {
        random_stream(seed, purpose).integers(2**62)
        for seed in (0, 1, 2**32, 2**32 + 1)
        for purpose in ("a", "b", "ab")
    }
    assert len(draws) == 12
