"""Inputs by name: read from arrays, tensors, frames and torch data sets; what does not fit is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from noisescale.datasets import DatasetOptions, load_dataset
from noisescale.errors import BadInput
from noisescale.input_shapes import vocabulary_of
from noisescale.named_inputs import NamedInputs

GENERATOR = np.random.default_rng(0)
TOKENS = GENERATOR.integers(7, size=(30, 4))
IMAGES = GENERATOR.normal(3, 2, size=(30, 2, 5, 5)).astype(np.float32)
COLUMNS = GENERATOR.normal(size=(30, 3)) * [1, 10, 100]
LABELS = np.arange(30) % 3
Load = Callable[..., Any]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    def load(*returned: Any, **options: Any) -> Any:
        module = ModuleType("own_named")
        module.data = lambda: returned  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "own_named", module)
        return load_dataset(DatasetOptions("own_named:data", **options))

    return load


def parts(x: dict[str, Any]) -> tuple[Any, ...]:
    return {name: value[:20] for name, value in x.items()}, LABELS[:20], {n: v[20:] for n, v in x.items()}, LABELS[20:]


def test_arrays_tensors_and_frames(load: Load) -> None:
    frame = pd.DataFrame(COLUMNS, columns=["a", "b", "c"])
    x = {"tokens": torch.as_tensor(TOKENS), "image": IMAGES, "table": frame, "seen": COLUMNS[:, 0] > 0,
         "counts": pd.DataFrame(TOKENS)}  # fmt: skip
    data = load(*parts(x))
    assert data.input_shape == {"tokens": (4,), "image": (2, 5, 5), "table": (3,), "seen": (), "counts": (4,)}
    assert vocabulary_of(data.input_shape["counts"]) is None and data.x_train["counts"].dtype == torch.int64
    assert vocabulary_of(data.input_shape["tokens"]) == 7 and vocabulary_of(data.input_shape["table"]) is None
    image, table = data.x_train["image"], data.x_train["table"]
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    assert float(table.std(correction=0)) == pytest.approx(1, rel=1e-5)
    assert torch.equal(data.x_train["tokens"], torch.as_tensor(TOKENS[:20]))
    assert torch.equal(data.x_test["seen"], torch.as_tensor(COLUMNS[20:, 0] > 0))
    by_column = load(*parts(x), standardize="columns").x_train["table"].std(0, correction=0)
    torch.testing.assert_close(by_column, torch.ones(3), rtol=0, atol=1e-5)
    assert torch.equal(load(*parts(x), standardize=False).x_train["image"], torch.as_tensor(IMAGES[:20]))


def test_parts_of_the_data_hold_the_same_examples(load: Load) -> None:
    x = {"tokens": TOKENS, "row": np.arange(30), "image": IMAGES}
    data = load(*parts(x), train_size=12, validation_fraction=0.25, test_size=5)
    for split, count in (("train", 9), ("validation", 3), ("test", 5)):
        inputs = getattr(data, f"x_{split}")
        assert isinstance(inputs, NamedInputs) and len(inputs) == count
        assert torch.equal(inputs["tokens"], torch.as_tensor(TOKENS)[inputs["row"]])
        assert torch.equal(getattr(data, f"y_{split}"), torch.as_tensor(LABELS)[inputs["row"]])


def test_the_hash_knows_names_and_values(load: Load) -> None:
    x = {"tokens": TOKENS, "row": np.arange(30)}
    first = load(*parts(x)).hash
    assert load(*parts({"row": np.arange(30), "tokens": TOKENS})).hash == first
    changed = TOKENS.copy()
    changed[25, 1] = (changed[25, 1] + 1) % 7
    for other in ({**x, "tokens": changed}, {"tokens": TOKENS, "line": np.arange(30)}):
        assert load(*parts(other)).hash != first


def test_targets_of_tokens(load: Load) -> None:
    x = {"tokens": TOKENS, "mask": TOKENS > 2}
    following = np.roll(TOKENS, -1, 1)
    following[:, -1] = -1
    train, _, test, _ = parts(x)
    data = load(train, following[:20], test, following[20:])
    assert data.y_train.shape == (20, 4) and data.num_classes == 7


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ({"a": IMAGES[:20]}, IMAGES[20:], r"x_test: inputs by name, because .*Got: a ndarray"),
        ({"a": IMAGES[:20]}, {"b": IMAGES[20:]}, r"x_test: the names of x_train, 'a'\. Got: 'b'"),
        ({"a": IMAGES[:20], "b": LABELS[:20]}, {"a": IMAGES[20:]}, r"the names of x_train, 'a', 'b'"),
        ({"a": IMAGES[:20]}, {"a": IMAGES[20:, :1]}, r"x_test 'a': .*the same shape as in x_train, \[2, 5, 5\]"),
        ({"a": IMAGES[:20], "b": LABELS[:19]}, {"a": IMAGES[20:], "b": LABELS[20:]}, r"x_train 'b': as many .*'a', 20"),
        ({"a": LABELS[:20]}, {"a": COLUMNS[20:, 0]}, r"x_test 'a': whole numbers, as in x_train\. Got: numbers"),
        ({"a": -TOKENS[:20]}, {"a": TOKENS[20:]}, r"x_train 'a': tokens must be 0"),
        ({}, {}, r"x_train: at least one array"),
        ({3: IMAGES[:20]}, {3: IMAGES[20:]}, r"texts as names. Got: 3"),
        ({"a": np.float64(3)}, {"a": IMAGES[20:]}, r"x_train 'a'"),
        ({"a": np.full((20, 2), np.nan)}, {"a": np.zeros((10, 2))}, r"x_train 'a': .*finite"),
        ({"a": np.ones((20, 2))}, {"a": np.zeros((10, 2))}, r"'a' x_train: inputs must vary"),
        ({"a": [["x"], ["y"]]}, {"a": [["x"], ["y"]]}, r"x_train 'a': must be a numpy array"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(train: Any, test: Any, message: str, load: Load) -> None:
    with pytest.raises(BadInput, match=message):
        load(train, LABELS[:20], test, LABELS[20:])


class Items(Dataset[Any]):
    def __init__(self, item: Callable[[int], Any], rows: range) -> None:
        self.item, self.rows = item, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        return self.item(self.rows[place])


def as_pair(row: int) -> Any:
    return {"tokens": torch.as_tensor(TOKENS[row]), "age": float(COLUMNS[row, 0])}, int(LABELS[row])


def as_dict(row: int) -> Any:
    return {**as_pair(row)[0], "labels": int(LABELS[row])}


@pytest.mark.parametrize("item", [as_pair, as_dict])
@pytest.mark.parametrize("loader", [False, True])
def test_torch_data_sets_of_dictionaries(item: Callable[[int], Any], loader: bool, load: Load) -> None:
    sets: list[Any] = [Items(item, range(20)), Items(item, range(20, 30))]
    data = load(*(DataLoader(part, batch_size=4) if loader else part for part in sets))
    expected = load(*parts({"tokens": TOKENS, "age": COLUMNS[:, 0]}))
    assert data.hash == expected.hash and data.input_shape == expected.input_shape
    assert torch.equal(data.x_test["tokens"], torch.as_tensor(TOKENS[20:])) and torch.equal(
        data.y_test, expected.y_test
    )


def collate(items: list[Any]) -> Any:
    tokens = pad_sequence([inputs["tokens"] for inputs, _ in items], batch_first=True)
    lengths = torch.tensor([len(inputs["tokens"]) for inputs, _ in items])
    return {"tokens": tokens, "mask": torch.arange(tokens.shape[1]) < lengths[:, None]}, torch.tensor(
        [label for _, label in items]
    )


def test_a_collate_function_pads_and_masks(load: Load) -> None:
    def ragged(row: int) -> Any:
        return {"tokens": torch.as_tensor(TOKENS[row, : 1 + row % 4])}, int(LABELS[row])

    sets = [Items(ragged, range(20)), Items(ragged, range(20, 29))]
    data = load(*(DataLoader(part, collate_fn=collate) for part in sets))
    assert data.x_train["tokens"].shape == (20, 4) and data.x_test["mask"].shape == (9, 4)
    assert data.x_train["mask"].sum(1).tolist() == [1 + row % 4 for row in range(20)]
    with pytest.raises(BadInput, match=r"train, item 1 'tokens': .*collate function may pad"):
        load(*sets)


def test_items_with_other_names_are_refused(load: Load) -> None:
    def other(row: int) -> Any:
        inputs, label = as_pair(row)
        return (inputs if row < 4 else {"tokens": inputs["tokens"]}), label

    with pytest.raises(BadInput, match=r"item 4: the entries of item 0, 'tokens', 'age', 'target'"):
        load(Items(other, range(20)), Items(as_pair, range(20, 30)))
