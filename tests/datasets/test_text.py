"""Windows of a text file: every byte is a target once, parts follow one another, and the file stays on the disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisescale.datasets import Dataset, DatasetOptions, load_dataset
from noisescale.errors import BadInput
from noisescale.input_shapes import vocabulary_of

TEXT = "Größe und Länge: ein Satz, der sich wiederholt. " * 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def load(path: Path, **options: Any) -> Dataset:
    return load_dataset(DatasetOptions("text", path=str(path), **options))


def test_every_byte_is_a_target_once_in_its_order(path: Path) -> None:
    dataset = load(path, context=7, validation_fraction=0.25)
    text = path.read_bytes()
    windows = (len(text) - 1) // 7
    parts = [(getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")) for part in ("train", "validation", "test")]
    inputs, targets = (torch.cat(arrays).numpy().tobytes() for arrays in zip(*parts, strict=True))
    assert inputs == text[: windows * 7]
    assert targets == text[1 : windows * 7 + 1]
    assert len(dataset.x_test) == windows // 10
    assert len(dataset.x_validation) == round(0.25 * (windows - windows // 10))
    assert (dataset.input_shape, vocabulary_of(dataset.input_shape), dataset.num_classes) == ((7,), 256, 256)


def test_smaller_training_sets_are_at_the_beginning_and_tests_at_the_end(path: Path) -> None:
    dataset, text = load(path, context=5, train_size=12, test_size=3), path.read_bytes()
    assert dataset.x_train.numpy().tobytes() == text[:60]
    windows = (len(text) - 1) // 5
    assert dataset.x_test.numpy().tobytes() == text[(windows - 3) * 5 : windows * 5]


def test_chance_is_the_share_of_the_most_frequent_byte(path: Path) -> None:
    dataset = load(path, context=7)
    counts = np.bincount(dataset.y_train.numpy().ravel())
    assert dataset.chance_accuracy == counts.max() / counts.sum()


def test_the_hash_knows_the_bytes_and_the_options(path: Path) -> None:
    first = load(path, context=7).hash
    assert load(path, context=7).hash == first
    moved = path.rename(path.with_name("moved.txt"))
    assert load(moved, context=7).hash == first
    changes: list[dict[str, Any]] = [{"context": 6}, {"train_size": 9}, {"test_size": 9}, {"validation_fraction": 0.5}]
    assert len({first, *(load(moved, **{"context": 7, **change}).hash for change in changes)}) == 5
    moved.write_text("T" + TEXT[1:].replace("Satz", "Sitz", 1), encoding="utf-8")
    assert load(moved, context=7).hash != first


def test_a_large_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"0123456789abcdef" * 2**21)
    tracemalloc.start()
    try:
        dataset = load(path, context=32, train_size=2**19, validation_fraction=0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The file has 32 MiB. A few parts of it with a million bytes each, as int64, are in memory at a time.
    assert peak < 24 * 2**20
    assert dataset.x_train.dtype == torch.uint8
    assert dataset.x_train[-1].numpy().tobytes() == b"0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 2000}, r"dataset\.context: at most 509, .*1020 bytes.*Got: 2000"),
        ({"context": 510}, r"dataset\.context: at most 509"),
        ({"context": 509}, r"dataset\.test_size: given, or 10 windows of dataset.context = 509 .*Got: 2 windows"),
        ({"context": 509, "test_size": 2}, r"dataset\.test_size: below the number of windows, 2.*Got: 2"),
        ({"context": 7, "train_size": 1000}, r"dataset\.train_size: must be at most 131.*Got: 1000"),
        ({"context": 7, "standardize": "columns"}, r"dataset\.standardize: false or not given, for tokens"),
        ({"context": 7, "order": 2}, r"dataset\.order: not given: only for language. Got: 2"),
    ],
)
def test_bad_options_are_refused_by_name(path: Path, options: dict[str, Any], message: str) -> None:
    assert path.stat().st_size == 1020
    with pytest.raises(BadInput, match=message):
        load(path, **options)
    assert load(path, context=509, test_size=1).x_train.shape == (1, 509)


@pytest.mark.parametrize("content", [b"a" * 2**20 + b"\xff" + b"a" * 50, b"a" * (2**20 - 1) + b"\xc3" + b"a" * 50])
def test_the_first_byte_that_is_not_utf8_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    place = max(content.find(b"\xff"), content.find(b"\xc3"))
    with pytest.raises(BadInput, match=rf"dataset\.path: a text file in UTF-8. Got: .*text.txt, where byte {place} is"):
        load(path, context=7)


def test_a_missing_file_is_refused_by_name(path: Path) -> None:
    with pytest.raises(BadInput, match=r"dataset\.path: the path of a text file, for dataset.name = 'text'"):
        load_dataset(DatasetOptions("text"))
    with pytest.raises(BadInput, match=r"dataset\.path: .*absent.txt \(No such file"):
        load(path.with_name("absent.txt"))
    path.write_bytes(b"")
    with pytest.raises(BadInput, match=r"dataset\.path: a text\. Got: .*, which is empty"):
        load(path)
    path.write_bytes("Ö".encode()[:1])
    with pytest.raises(BadInput, match="where byte 0 is not"):
        load(path)
