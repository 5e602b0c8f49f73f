from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from mnist1d.data import get_dataset_args, make_dataset

from noisescale.datasets import DatasetOptions, mnist1d
from noisescale.datasets.mnist1d import generate_curves, load_mnist1d
from noisescale.datasets.restricted_pickle import load_restricted_pickle
from noisescale.errors import BadInput

# Standardized values are at most about 4, so rounding to float32 changes them by at most 2.4e-7.
TOLERANCE = 2.5e-7


def test_the_values_equal_the_published_values(published_data: Path) -> None:
    path = published_data / "mnist1d" / "mnist1d_data.pkl"
    published = load_restricted_pickle(path.read_bytes(), path)
    raw = load_mnist1d(DatasetOptions("mnist1d"))
    np.testing.assert_allclose(raw.x_train[:, 0], published["x"], atol=TOLERANCE)
    np.testing.assert_allclose(raw.x_test[:, 0], published["x_test"], atol=TOLERANCE)
    np.testing.assert_array_equal(raw.y_train, published["y"])
    np.testing.assert_array_equal(raw.y_test, published["y_test"])


def test_embedded_values_of_the_published_set() -> None:
    raw = load_mnist1d(DatasetOptions("mnist1d"))
    np.testing.assert_allclose(raw.x_train[0, 0, :3], [-0.33200567, -0.47191037, -0.77869708], atol=TOLERANCE)
    np.testing.assert_allclose(raw.x_test[-1, 0, -3:], [0.65987565, 0.87773435, 1.19315184], atol=TOLERANCE)
    everything = np.concatenate([raw.x_train, raw.x_test]).astype(np.float64)
    assert mnist1d.checksum(everything) == pytest.approx(445.7184519659723, abs=1e-3)


def test_curves_equal_those_of_the_package() -> None:
    arguments = get_dataset_args()
    arguments.num_samples, arguments.seed = 200, 7
    made = make_dataset(arguments)
    curves, labels = generate_curves(seed=7, per_class=20)
    own_standardization = (curves - curves.mean()) / curves.std()
    np.testing.assert_allclose(own_standardization[:160], made["x"], atol=1e-14)
    np.testing.assert_array_equal(labels[160:], made["y_test"])


def test_the_constants_equal_the_mean_and_standard_deviation_of_the_published_curves() -> None:
    raw = load_mnist1d(DatasetOptions("mnist1d"))
    everything = np.concatenate([raw.x_train, raw.x_test]).astype(np.float64)
    assert everything.mean() == pytest.approx(0, abs=1e-9)
    assert everything.std() == pytest.approx(1, abs=1e-8)


def test_the_global_random_states_do_not_change() -> None:
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    generate_curves(seed=1, per_class=1)
    assert random.getstate() == states[0]
    for before, after in zip(states[1], np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    """Use blocks of 50 examples instead of 5,000, so that many blocks can be drawn."""
    monkeypatch.setattr(mnist1d, "BLOCK", 50)
    monkeypatch.setattr(mnist1d, "PUBLISHED_TRAIN", 40)
    monkeypatch.setattr(mnist1d, "PUBLISHED_TEST", 10)


def test_larger_sets_are_nested_and_share_no_example(small_blocks: None) -> None:
    some = load_mnist1d(DatasetOptions("mnist1d", train_size=60, test_size=70))
    more = load_mnist1d(DatasetOptions("mnist1d", train_size=130, test_size=120))
    assert [len(array) for array in (more.x_train, more.y_train, more.x_test, more.y_test)] == [130, 130, 120, 120]
    np.testing.assert_array_equal(some.x_train, more.x_train[:60])
    np.testing.assert_array_equal(some.y_test, more.y_test[:70])
    published = load_mnist1d(DatasetOptions("mnist1d"))
    sets = (published.x_train, published.x_test, more.x_train, more.x_test)
    assert len(np.unique(np.concatenate(sets), axis=0)) == 50 + 130 + 120


def test_sizes_up_to_the_published_ones_keep_the_published_set(small_blocks: None) -> None:
    whole, small = load_mnist1d(DatasetOptions("mnist1d")), load_mnist1d(DatasetOptions("mnist1d", 40, 10))
    assert len(whole.x_train) == 40
    np.testing.assert_array_equal(whole.x_train, small.x_train)
    np.testing.assert_array_equal(whole.x_test, small.x_test)


def test_a_larger_test_set_has_the_distribution_of_the_published_set() -> None:
    published = load_mnist1d(DatasetOptions("mnist1d"))
    larger = load_mnist1d(DatasetOptions("mnist1d", test_size=5_000))
    assert np.bincount(larger.y_test).tolist() == [500] * 10
    for label in range(10):
        generated, published_curves = (
            larger.x_test[larger.y_test == label],
            published.x_train[published.y_train == label],
        )
        standard_error = np.sqrt(
            generated.var(axis=0) / len(generated) + published_curves.var(axis=0) / len(published_curves)
        )
        # There are 400 comparisons. The largest deviation exceeds 4.5 standard errors once in 400 such sets.
        assert (np.abs(generated.mean(axis=0) - published_curves.mean(axis=0)) / standard_error).max() < 4.5


def test_a_second_load_reads_the_cache(small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_mnist1d(DatasetOptions("mnist1d", test_size=60))
    monkeypatch.delattr(mnist1d, "generate_curves")
    np.testing.assert_array_equal(first.x_test, load_mnist1d(DatasetOptions("mnist1d", test_size=60)).x_test)


def test_a_cache_that_cannot_be_written_changes_nothing(small_blocks: None, empty_cache: Path) -> None:
    empty_cache.touch()
    assert len(load_mnist1d(DatasetOptions("mnist1d")).x_train) == 40


@pytest.mark.parametrize("key", ["train_size", "test_size"])
def test_too_many_examples_are_refused_by_key(key: str) -> None:
    with pytest.raises(BadInput, match=rf"dataset\.{key}: must be at most 1000000"):
        load_mnist1d(DatasetOptions("mnist1d", **{key: 1_000_001}))


def test_a_generator_with_other_values_is_refused_and_its_versions_are_named(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(seed: int, per_class: int) -> tuple[np.ndarray, np.ndarray]:
        curves, labels = generate_curves(seed, per_class)
        curves[3, 5] += 1e-6
        return curves, labels

    monkeypatch.setattr(mnist1d, "generate_curves", shifted)
    with pytest.raises(
        BadInput, match=r"mnist1d: .*as mnist1d 0\.0\.2\.post1, numpy 2.* Got: other values from mnist1d"
    ):
        load_mnist1d(DatasetOptions("mnist1d"))
