"""Whole numbers of a user's function: tokens, labels of each token, and how a spec makes numbers of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.datasets.tokens import MOST_COUNTED
from noisescale.datasets.user_arrays import check_arrays
from noisescale.errors import BadInput
from noisescale.input_shapes import TokenShape, vocabulary_of
from noisescale.store import Study

RNG = np.random.default_rng(0)
STREAM = RNG.integers(0, 7, (10, 6))
STREAM[0, :2], STREAM[9, -1] = (6, 0), 1
TOKENS, NEXT = STREAM[:, :-1], STREAM[:, 1:]
USABLE: dict[str, Any] = {"x_train": TOKENS[:6], "y_train": NEXT[:6], "x_test": TOKENS[6:], "y_test": NEXT[6:]}
MODULE = """
import numpy as np

def arrays():
    return [np.load(f"arrays/{key}.npy") for key in ("x_train", "y_train", "x_test", "y_test")]
"""
LABELS = {"y_train": np.arange(6) % 3, "y_test": np.arange(4) % 3}


def options(**values: Any) -> DatasetOptions:
    return DatasetOptions("own:arrays", **values)


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: dict[str, Any], **values: Any) -> Dataset:
    folder = tmp_path / "arrays"
    folder.mkdir(exist_ok=True)
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    (tmp_path / "own_tokens.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return load_dataset(replace(options(**values), name="own_tokens:arrays"))


def test_tokens_stay_whole_numbers_and_know_their_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {key: array.astype(np.int16) for key, array in USABLE.items()}
    dataset = load(tmp_path, monkeypatch, arrays, validation_fraction=0.5)
    assert dataset.input_shape == TokenShape((5,), 7)
    assert dataset.num_classes == 7
    for part in ("train", "validation", "test"):
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        assert x.dtype == y.dtype == torch.int64
        assert torch.equal(x[:, 1:], y[:, :-1])
    assert {tuple(row) for row in (*dataset.x_train.tolist(), *dataset.x_validation.tolist())} == {
        tuple(row) for row in TOKENS[:6].tolist()
    }
    assert "dataset.standardize = true" in dataset.notes[0]


def test_chance_is_the_share_of_the_most_frequent_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load(tmp_path, monkeypatch, USABLE)
    assert dataset.chance_accuracy == np.bincount(NEXT[:6].ravel()).max() / NEXT[:6].size
    hidden = NEXT.copy()
    hidden[:, 0] = -100
    dataset = load(tmp_path, monkeypatch, {**USABLE, "y_train": hidden[:6], "y_test": hidden[6:]})
    assert dataset.chance_accuracy == np.bincount(NEXT[:6, 1:].ravel()).max() / NEXT[:6, 1:].size
    assert dataset.y_train.min() == -100


@pytest.mark.parametrize("standardize", [True, "columns"])
def test_a_spec_makes_numbers_of_whole_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standardize: bool | str
) -> None:
    dataset = load(tmp_path, monkeypatch, {**USABLE, **LABELS}, standardize=standardize)
    assert dataset.x_train.dtype == torch.float32
    assert vocabulary_of(dataset.input_shape) is None
    columns = dataset.x_train if standardize == "columns" else dataset.x_train.reshape(-1, 1)
    torch.testing.assert_close(columns.mean(0), torch.zeros(columns.shape[1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_bytes_and_booleans_are_numbers_unless_a_vocabulary_is_given(dtype: type) -> None:
    arrays = {**USABLE, **LABELS, "x_train": TOKENS[:6].astype(dtype), "x_test": TOKENS[6:].astype(dtype)}
    assert check_arrays("own", **arrays).vocabulary is None
    raw = check_arrays("own", **arrays, options=options(vocabulary=9))
    assert raw.vocabulary == 9
    assert raw.x_train.dtype == np.int64


def test_a_frame_of_whole_numbers_holds_numbers() -> None:
    frames = {key: pd.DataFrame(USABLE[key], columns=list("abcde")) for key in ("x_train", "x_test")}
    assert check_arrays("own", **{**LABELS, **frames}).vocabulary is None
    assert check_arrays("own", **{**LABELS, **frames}, options=options(vocabulary=9)).vocabulary == 9


def test_images_of_whole_numbers_are_numbers() -> None:
    images = np.arange(10 * 8).reshape(10, 2, 4)
    assert check_arrays("own", images[:6], LABELS["y_train"], images[6:], LABELS["y_test"]).vocabulary is None


def test_a_model_that_predicts_tokens_has_an_output_for_each_kind() -> None:
    assert check_arrays("own", **USABLE, options=options(vocabulary=11)).num_outputs == 11
    # Other labels of tokens, such as parts of speech, are counted.
    tags = {"y_train": TOKENS[:6] % 3, "y_test": TOKENS[6:] % 3}
    assert check_arrays("own", **{**USABLE, **tags}, options=options(vocabulary=11)).num_outputs == 3
    assert check_arrays("own", **{**USABLE, **LABELS}, options=options(vocabulary=11)).num_outputs == 3


def test_sequences_of_vectors_may_have_labels_at_each_position() -> None:
    sequences = RNG.standard_normal((10, 5, 2))
    labels = RNG.integers(0, 4, (10, 5))
    labels[0, 0] = 3
    raw = check_arrays("own", sequences[:6], labels[:6], sequences[6:], labels[6:])
    assert (raw.num_outputs, raw.y_train.shape) == (4, (6, 5))


@pytest.mark.parametrize(
    ("changed", "values", "message"),
    [
        ({}, {"vocabulary": 6}, r"own x_train: tokens must be 0 to V - 1.* V = 6.*Got: a token 6"),
        ({"x_test": TOKENS[6:] + 3}, {"vocabulary": 7}, r"own x_test: tokens must be .*Got: a token 9"),
        ({"x_train": TOKENS[:6] - 1}, {}, r"own x_train: tokens must be .*Got: a token -1"),
        ({"x_test": TOKENS[6:] + MOST_COUNTED}, {}, r"own x_test: .*dataset.vocabulary.*Got: a largest token of 1"),
        ({"x_train": TOKENS[:6] + 0.5}, {"vocabulary": 7}, r"own x_train: whole numbers of shape \[N, T\].*float64"),
        ({}, {"vocabulary": 7, "standardize": True}, r"dataset.standardize: false or not given.*Got: True"),
        ({"y_train": NEXT[:6, :4]}, {}, r"own y_train: .*each of T = 5 positions.*Got: int64 of shape \[6, 4\]"),
        ({"y_test": NEXT[6:9]}, {}, r"own y_test: must be as long as its inputs, 4. Got: 3"),
        ({"y_test": NEXT[6:, 0]}, {}, r"own y_test: must be of the same kind .*of 5 tokens. Got: class labels"),
        ({"y_train": NEXT[:6] - 2}, {}, r"own y_train: labels of tokens .*the same negative number.*Got: -1 and -2"),
        ({"y_train": NEXT[:6] * 0 - 1}, {}, r"own y_train: at least one label must be 0 or above.*Got: only -1"),
        ({"y_train": NEXT[:6] + 100}, {}, r"at most the number of labels, 50. Got: a largest label of 106"),
    ],
)
def test_unusable_tokens_are_refused_by_name(changed: dict[str, Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_arrays("own", **{**USABLE, **changed}, options=options(**values))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_view_that_claims_more_than_any_memory_ends(dtype: type) -> None:
    endless = np.lib.stride_tricks.as_strided(np.zeros(1, dtype), (2**50, 3), (0, 0))
    with pytest.raises(MemoryError):
        check_arrays("own", endless, np.arange(4) % 2, np.zeros((4, 3), dtype), np.arange(4) % 2)


def test_labels_of_tokens_are_not_redrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"dataset\.label_noise: must be 0 .*labels of tokens. Got: 0.1"):
        load(tmp_path, monkeypatch, USABLE, label_noise=0.1)
    assert load(tmp_path, monkeypatch, {**USABLE, **LABELS}, label_noise=0.4).x_train.dtype == torch.int64


@pytest.mark.parametrize("key", ["vocabulary", "context", "order"])
@pytest.mark.parametrize("value", [0, 2.0, True])
def test_an_option_that_is_no_count_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(BadInput, match=f"^dataset.{key}: must be a positive whole number. Got: {value}"):
        options(**{key: value})


def test_a_key_that_the_data_set_ignores_is_refused() -> None:
    with pytest.raises(BadInput, match=r"dataset\.vocabulary: not given: only for .*your function. Got: 7"):
        load_dataset(DatasetOptions("digits", vocabulary=7))


def test_a_study_keeps_the_vocabulary(tmp_path: Path) -> None:
    shape = {"name": "own:arrays", "input_shape": [5], "num_classes": 3, "vocabulary": 7}
    (tmp_path / "data.json").write_text(json.dumps(shape))
    stored, classes = Study(tmp_path, {}).data_shape()
    assert (stored, classes, vocabulary_of(stored)) == ((5,), 3, 7)
    (tmp_path / "data.json").write_text(json.dumps({**shape, "vocabulary": 0}))
    with pytest.raises(BadInput, match="data.json"):
        Study(tmp_path, {}).data_shape()
