"""Torch data sets and loaders of a user: read into the same arrays, and what is not used is said."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import noisescale.datasets
from noisescale.datasets import DatasetOptions, load_dataset
from noisescale.errors import BadInput

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(50, 2, 4, generator=GENERATOR), torch.arange(50) % 3
TRAIN, TEST = slice(0, 40), slice(40, 50)


class Mapped(Dataset[Any]):
    """A data set of the items that a function of the index returns."""

    def __init__(self, item: Callable[[int], Any], length: int) -> None:
        self.item, self.length = item, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class Stream(IterableDataset[Any]):
    """An iterable data set with a stated length."""

    def __init__(self, part: slice, length: int) -> None:
        self.part, self.length = part, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(X[self.part], Y[self.part], strict=True))


def tensors(part: slice) -> TensorDataset:
    return TensorDataset(X[part], Y[part])


def items(part: slice, convert: Callable[[torch.Tensor, torch.Tensor], Any]) -> Mapped:
    return Mapped(lambda index: convert(X[part][index], Y[part][index]), len(X[part]))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> Callable[..., noisescale.datasets.Dataset]:
    """Return a function that loads the data sets that a user's function returns."""

    def load(train: Any, test: Any, **options: Any) -> noisescale.datasets.Dataset:
        module = ModuleType("own_items")
        module.data = lambda: (train, test)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "own_items", module)
        return load_dataset(DatasetOptions("own_items:data", **options))

    return load


Load = Callable[..., noisescale.datasets.Dataset]


@pytest.mark.parametrize(
    "make",
    [
        tensors,
        lambda part: DataLoader(tensors(part), batch_size=7),
        lambda part: items(part, lambda x, y: (x.numpy(), int(y))),
        lambda part: items(part, lambda x, y: {"x": x.tolist(), "label": y}),
        lambda part: Stream(part, len(X[part])),
        lambda part: DataLoader(Stream(part, len(X[part])), batch_size=3),
    ],
)
def test_items_of_any_form_give_the_same_data(load: Load, make: Callable[[slice], Any]) -> None:
    dataset = load(make(TRAIN), make(TEST), standardize=False)
    assert torch.equal(dataset.x_train, X[TRAIN]) and torch.equal(dataset.x_test, X[TEST])
    assert torch.equal(dataset.y_train, Y[TRAIN]) and torch.equal(dataset.y_test, Y[TEST])
    assert (dataset.input_shape, dataset.num_classes, dataset.notes) == ((2, 4), 3, ())


def lies_in_file(tensor: torch.Tensor) -> bool:
    """Return whether the memory of a tensor is that of a file of the cache."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(address, 16) for address in line.split()[0].split("-"))
        if start <= tensor.data_ptr() < end:
            return line.endswith(".npy")
    return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list its memory maps")
def test_the_arrays_lie_in_files(load: Load, empty_cache: Path) -> None:
    dataset = load(tensors(TRAIN), tensors(TEST))
    assert lies_in_file(dataset.x_train) and lies_in_file(dataset.x_test)
    files = sorted(path.name for path in (empty_cache / "arrays").iterdir())
    again = load(items(TRAIN, lambda x, y: (x, y)), items(TEST, lambda x, y: (x, y)))
    assert again.hash == dataset.hash
    assert sorted(path.name for path in (empty_cache / "arrays").iterdir()) == files
    torch.testing.assert_close(dataset.x_train.mean((0, 2)), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list its memory maps")
def test_without_a_cache_the_data_are_the_same(load: Load, empty_cache: Path) -> None:
    tokens = torch.arange(50).remainder(5).reshape(10, 5).int()
    sets = TensorDataset(tokens[:6], tokens[:6]), TensorDataset(tokens[6:], tokens[6:])
    mapped = load(*sets)
    assert lies_in_file(mapped.x_train)
    for path in (empty_cache / "arrays").iterdir():
        path.unlink()
    (empty_cache / "arrays").rmdir()
    (empty_cache / "arrays").write_text("a file in the place of the folder")
    in_memory = load(*sets)
    assert not lies_in_file(in_memory.x_train)
    assert in_memory.hash == mapped.hash
    assert torch.equal(in_memory.x_train, mapped.x_train.long())


def padded(batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    sequences, labels = zip(*batch, strict=True)
    return pad_sequence(list(sequences), batch_first=True, padding_value=9), torch.tensor(labels)


def ragged(length: int) -> Mapped:
    return Mapped(lambda index: (torch.arange(1 + index % length), index % 2), 12)


@pytest.mark.parametrize("convert", [bool, lambda label: np.int32(label), lambda label: np.uint16(label)])
def test_labels_of_any_kind_become_int64(load: Load, convert: Callable[[int], Any]) -> None:
    train, test = (items(part, lambda x, y: (x, convert(int(y) % 2))) for part in (TRAIN, TEST))
    dataset = load(train, test)
    assert dataset.y_train.dtype == torch.int64
    assert torch.equal(dataset.y_train, Y[TRAIN] % 2)


def test_ragged_items_are_padded_by_the_collate_function(load: Load) -> None:
    # Training and test items have other lengths, and inputs of the same shape.
    train, test = (DataLoader(ragged(length), batch_size=2, collate_fn=padded) for length in (3, 5))
    dataset = load(train, test)
    assert dataset.x_train.tolist()[:3] == [[0, 9, 9, 9, 9], [0, 1, 9, 9, 9], [0, 1, 2, 9, 9]]
    assert dataset.x_test.tolist()[4] == [0, 1, 2, 3, 4]
    assert dataset.y_train.tolist() == [0, 1] * 6


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        ({}, []),
        ({"shuffle": True}, ["its shuffle is not used"]),
        ({"drop_last": True}, ["its drop_last is not used"]),
        (
            {"sampler": RandomSampler(range(40), replacement=True, num_samples=16)},
            ["its shuffle is not used", "its replacement and number of samples are not used"],
        ),
        ({"shuffle": True, "drop_last": True}, ["its shuffle is not used", "its drop_last is not used"]),
        ({"sampler": WeightedRandomSampler([1.0] * 40, 40)}, ["the weights of its sampler are not used"]),
        ({"sampler": [3, 1]}, ["its sampler list is not used"]),
        ({"batch_sampler": [[0, 1], [2]]}, ["its batch sampler list is not used"]),
    ],
)
def test_what_of_a_loader_is_not_used_is_said(load: Load, options: dict[str, Any], notes: list[str]) -> None:
    batch = {} if "batch_sampler" in options else {"batch_size": 8}
    dataset = load(DataLoader(tensors(TRAIN), **batch, **options), tensors(TEST))
    assert len(dataset.x_train) == 40
    assert len(dataset.notes) == len(notes)
    for note, expected in zip(dataset.notes, notes, strict=True):
        assert note.startswith(f"own_items:data train: {expected}")


def test_a_sampler_of_a_subset_chooses_the_examples(load: Load) -> None:
    everything = TensorDataset(X, Y)
    train, test = (DataLoader(everything, sampler=SubsetRandomSampler(list(range(50))[part])) for part in (TRAIN, TEST))
    dataset = load(train, test, standardize=False)
    assert torch.equal(dataset.x_train, X[TRAIN]) and torch.equal(dataset.x_test, X[TEST])
    assert len(dataset.notes) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x + torch.randn(()), y),
        lambda x, y: (x if random.random() < 0.5 else x.flip(-1), y),
        lambda x, y: (np.random.normal(x.numpy()), y),  # noqa: NPY002
        lambda x, y: (x[:, : random.randint(1, 4)], y),
    ],
)
def test_a_random_transform_is_refused_with_this_reason(load: Load, change: Callable[..., Any]) -> None:
    required = r"own_items:data train: the same items at every reading. A random transform .*Got: another item \d+"
    with pytest.raises(BadInput, match=required):
        load(items(TRAIN, change), tensors(TEST))


def test_a_random_transform_of_later_items_is_refused(load: Load) -> None:
    class Late(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            x, y = super().__getitem__(index)
            return (x + torch.randn(()) if index > 100 else x), y

    x, y = torch.randn(400, 3), torch.arange(400) % 2
    with pytest.raises(BadInput, match=r"A random transform .*Got: another item \d{3} at the second"):
        load(Late(x, y), TensorDataset(x[:9], y[:9]))


def noisy(batch: list[Any]) -> Any:
    inputs, labels = padded(batch)
    return inputs + torch.randint(9, ()), labels


def test_a_random_collate_function_is_refused(load: Load) -> None:
    with pytest.raises(BadInput, match="Got: another batch from the collate function at the second reading"):
        load(DataLoader(ragged(3), collate_fn=noisy), DataLoader(ragged(3), collate_fn=noisy))


class Fault(Mapped):
    """A data set without a usable length."""

    def __len__(self) -> int:
        raise TypeError("no length")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (ragged(3), r"train, item 1: the shape and dtype of item 0; .*collate function.*shape \[2\], and .* of \[1\]"),
        (items(TRAIN, lambda x, y: (x, x, y)), r"train: items \(input, target\), or dicts.*Got: 3 values"),
        (items(TRAIN, lambda x, y: x), r"train: items \(input, target\), or dicts.*Got: a Tensor"),
        (items(TRAIN, lambda x, y: {"a": x, "b": y}), r"train: items .*Got: a dict of 'a', 'b'"),
        (items(TRAIN, lambda x, y: {"a": x, "y": y, "label": y}), r"Got: a dict of 'a', 'y', 'label'"),
        (items(TRAIN, lambda x, y: ([[1.0], [2.0, 3.0]], y)), r"train, item 0: lists of equal lengths"),
        (items(TRAIN, lambda x, y: ("text", y)), r"train, item 0: must be a numpy array.*Got: a str"),
        (items(TRAIN, lambda x, y: (x / 0 * 0, y)), r"train, item 0: must contain only finite"),
        (Mapped(lambda index: 1 / 0, 3), r"dataset.name: .*Got: ZeroDivisionError"),
        (Fault(lambda index: index, 3), r"train: a data set with a length .*Got: TypeError: no length"),
        (Mapped(lambda index: index, 0), r"train: a data set with at least one item. Got: 0"),
        (Stream(TRAIN, 41), r"train: as many items as its length states, 41. Got: 40"),
        (Stream(TRAIN, 39), r"train: as many items as its length states, 39. Got: more"),
        (Stream(slice(0, 0), 3), r"train: as many items as its length states, 3. Got: 0"),
        (DataLoader(ragged(3), collate_fn=lambda batch: 1 / 0), r"collate function that takes 12 items .*Zero"),
        (
            DataLoader(ragged(3), collate_fn=lambda batch: padded(batch[:5])),
            r"12 items along the first axis, from the collate function. Got: shape \[5, 3\]",
        ),
    ],
)
def test_unusable_items_are_refused_by_name(load: Load, train: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(train, tensors(TEST))


def test_a_pair_of_arrays_is_refused(load: Load) -> None:
    with pytest.raises(BadInput, match=r"must return \(train, test\), both torch data sets .*Got: 2 values"):
        load(X, tensors(TEST))


def test_items_are_never_in_memory_together(load: Load) -> None:
    rows = torch.randn(8, 1, 128, 128, generator=GENERATOR)
    large = Mapped(lambda index: (rows[index % 8] + index, index % 3), 1000)
    tracemalloc.start()
    try:
        dataset = load(large, tensors_of(rows))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The items take 63 MiB. Parts of a million entries, in float64 and in float32, are in memory at a time.
    assert peak < 40 * 2**20
    assert dataset.x_train.shape == (1000, 1, 128, 128)
    torch.testing.assert_close(dataset.x_train.double().std(), torch.tensor(1.0).double(), rtol=1e-3, atol=0)


def tensors_of(rows: torch.Tensor) -> TensorDataset:
    return TensorDataset(rows, torch.arange(len(rows)) % 3)
