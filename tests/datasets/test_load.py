from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from noisescale.datasets import KNOWN_DATASETS, Dataset, DatasetOptions, load_dataset
from noisescale.datasets.random_choices import random_stream
from noisescale.errors import BadInput

FULL = DatasetOptions("digits", train_size=500, test_size=100, validation_fraction=0.1, label_noise=0.2, data_seed=3)
ARRAYS = ("x_train", "y_train", "x_validation", "y_validation", "x_test", "y_test")


def same(left: Dataset, right: Dataset, name: str) -> bool:
    return torch.equal(getattr(left, name), getattr(right, name))


def test_shapes_and_dtypes() -> None:
    dataset = load_dataset(FULL)
    assert dataset.x_train.shape == (450, 1, 8, 8)
    assert dataset.x_validation.shape == (50, 1, 8, 8)
    assert dataset.x_test.shape == (100, 1, 8, 8)
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.num_classes == 10
    for name in ARRAYS:
        assert getattr(dataset, name).dtype == (torch.float32 if name[0] == "x" else torch.int64)


def test_without_options_everything_is_used_and_validation_is_empty() -> None:
    dataset = load_dataset(DatasetOptions("digits"))
    assert [len(getattr(dataset, name)) for name in ARRAYS] == [1437, 1437, 0, 0, 360, 360]
    assert dataset.x_validation.shape == (0, 1, 8, 8)


def test_equal_options_give_equal_data() -> None:
    first, second = load_dataset(FULL), load_dataset(FULL)
    assert first.hash == second.hash
    assert all(same(first, second, name) for name in ARRAYS)


@pytest.mark.parametrize(
    "change",
    [{"data_seed": 4}, {"label_noise": 0.3}, {"validation_fraction": 0.2}, {"train_size": 501}, {"test_size": 99}],
)
def test_other_data_have_another_hash(change: dict[str, float]) -> None:
    assert load_dataset(replace(FULL, **change)).hash != load_dataset(FULL).hash  # type: ignore[arg-type]


def test_label_noise_changes_only_training_labels() -> None:
    noisy, clean = load_dataset(FULL), load_dataset(replace(FULL, label_noise=0.0))
    assert not same(noisy, clean, "y_train")
    assert all(same(noisy, clean, name) for name in ARRAYS if name != "y_train")
    # Each of 90 redrawn labels is wrong with probability 0.9. The mean is 81 and the standard deviation is 2.8.
    assert 70 <= (noisy.y_train != clean.y_train).sum() <= 90


def test_the_size_of_the_test_set_does_not_change_the_training_set() -> None:
    one, other = load_dataset(FULL), load_dataset(replace(FULL, test_size=50))
    assert all(same(one, other, name) for name in ("x_train", "y_train", "x_validation"))


def test_every_split_keeps_its_labels_and_is_scaled_by_the_training_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The input of each example is its number, and its label is the last digit of the number.
    (tmp_path / "own_numbers.py").write_text(
        "import numpy as np\n"
        "def arrays():\n"
        "    train, test = np.arange(300), np.arange(1000, 1200)\n"
        "    return train[:, None] + 0.0, train % 10, test[:, None] + 0.0, test % 10\n"
    )
    monkeypatch.chdir(tmp_path)
    options = DatasetOptions("own_numbers:arrays", train_size=200, test_size=50, validation_fraction=0.25, data_seed=3)
    dataset = load_dataset(options)

    # The mean and the standard deviation follow from the test inputs. The training inputs must have the same.
    drawn = random_stream(3, "test subset").permutation(200)[:50] + 1000
    std, mean = np.polyfit(dataset.x_test[:, 0].double().numpy(), drawn, deg=1)
    parts = {}
    for part in ("train", "validation", "test"):
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        numbers = np.rint(x[:, 0].double().numpy() * std + mean).astype(int)
        np.testing.assert_array_equal(numbers % 10, y.numpy())
        parts[part] = numbers
    assert parts["train"].mean() == pytest.approx(mean, rel=1e-5)
    assert parts["train"].std() == pytest.approx(std, rel=1e-5)
    assert [len(part) for part in parts.values()] == [150, 50, 50]
    subset = {*parts["train"].tolist(), *parts["validation"].tolist()}
    assert len(subset) == 200
    assert subset <= set(range(300))
    assert set(parts["test"].tolist()) == set(drawn.tolist())


def test_chance_accuracy_is_the_share_of_the_largest_class() -> None:
    dataset = load_dataset(FULL)
    assert dataset.chance_accuracy == dataset.y_train.bincount().max().item() / 450


def test_the_global_random_states_do_not_change(empty_cache: Path) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).rand(), torch.initial_seed()
    load_dataset(FULL)
    load_dataset(DatasetOptions("mnist1d"))
    assert (random.random(), np.random.rand(), torch.initial_seed()) == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DatasetOptions("digits", train_size=1438), r"dataset\.train_size: must be at most 1437.*Got: 1438"),
        (DatasetOptions("digits", test_size=361), r"dataset\.test_size: must be at most 360.*Got: 361"),
        (DatasetOptions("digits", train_size=10, validation_fraction=0.01), r"dataset\.validation_fraction: "),
        (DatasetOptions("digits", train_size=10, validation_fraction=0.99), r"dataset\.validation_fraction: "),
        (
            DatasetOptions("mnist1"),
            r"dataset\.name: must be one of mnist1d, digits, .*package\.module:function.*mnist1d\?",
        ),
        (DatasetOptions("imagenet"), r"dataset\.name: must be one of .*Got: 'imagenet'\.$"),
    ],
)
def test_the_message_names_the_error(options: DatasetOptions, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_dataset(options)


def test_real_valued_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_targets.py").write_text(
        "import numpy as np\n"
        "def arrays():\n"
        "    x = np.arange(40.0).reshape(10, 4)\n"
        "    return x, x[:, :2] + 0.5, x[:3], x[:3, :2] + 0.5\n"
    )
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset(DatasetOptions("own_targets:arrays", train_size=10, validation_fraction=0.2))
    assert dataset.y_train.dtype == torch.float32
    assert dataset.num_classes == 2
    assert np.isnan(dataset.chance_accuracy)
    # Targets do not change, and they still belong to their inputs.
    assert dataset.y_test.tolist() == [[0.5, 1.5], [4.5, 5.5], [8.5, 9.5]]
    ratio = (dataset.x_train[:, 0] - dataset.x_train[0, 0]) / (dataset.y_train[:, 0] - dataset.y_train[0, 0])
    assert ratio[1:].max() - ratio[1:].min() < 1e-5
    with pytest.raises(BadInput, match=r"dataset\.label_noise: must be 0 for real-valued targets"):
        load_dataset(DatasetOptions("own_targets:arrays", label_noise=0.1))


def test_every_known_name_has_a_separate_loader() -> None:
    assert {"mnist1d", "digits", "mnist", "fashion_mnist", "cifar10"} <= set(KNOWN_DATASETS)
    assert len({source.load for source in KNOWN_DATASETS.values()}) == len(KNOWN_DATASETS)
