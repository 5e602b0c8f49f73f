"""Targets and data sets that a loss cannot take are refused in one sentence, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import Grid, SweepSpec
from noisescale.sweeps.grid_checks import check_grid

MODULE = """
import numpy as np
import torch
from torch import nn

R = np.random.default_rng(0)
X, X_TEST = R.integers(0, 5, (40, 7)), R.integers(0, 5, (20, 7))
NUMBERS, NUMBERS_TEST = (R.normal(size=(n, 6)).astype("float32") for n in (40, 20))


class Tokens(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, width), nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.embedding(x).relu())


def model(width, shape, classes):
    return Tokens(width, classes)


def network(width, shape, classes):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, classes))


def hidden():
    y, y_test = X.copy(), X_TEST.copy()
    y[:, 0] = y_test[:, 0] = -100
    return X, y, X_TEST, y_test


def hidden_test():
    return X, X.copy(), X_TEST, np.full_like(X_TEST, 1)


def hidden_validation():
    y = X.copy()
    y[1:] = -100
    return X, y, X_TEST, X_TEST.copy()


def rare():
    y = np.zeros(40, int)
    y[20:] = 1
    y[-3:] = 2
    return NUMBERS, y, NUMBERS_TEST, np.arange(20) % 3


def one_class_each():
    return X, X[:, 0], X_TEST, X_TEST[:, 0]


class Liar(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, index):
        return NUMBERS[index % 40], index % 2 if index < 50 else [][index]


def liar():
    return Liar(), torch.utils.data.TensorDataset(torch.zeros(4, 6), torch.arange(4) % 2)


def padded_to(length):
    return lambda items: (
        torch.stack([nn.functional.pad(x, (0, length - len(x))) for x, _ in items]), torch.tensor([y for _, y in items])
    )


def unequal():
    items = [(torch.ones(1 + index % 4), index % 2) for index in range(40)]
    loader = torch.utils.data.DataLoader
    return loader(items, collate_fn=padded_to(6)), loader(items, collate_fn=padded_to(5))


def named():
    x, x_test = ({"ids": ids, "mask": ids > 0} for ids in (X, X_TEST))
    return x, X, x_test, X_TEST


class TwoInputs(Tokens):
    def forward(self, ids, mask):
        return super().forward(ids)


def two_inputs(width, shapes, classes):
    return TwoInputs(width, classes)


def token_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


def not_a_number(outputs, targets):
    return (outputs * float("nan")).sum(-1)


def text(outputs, targets):
    return "0.5"
"""


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ("hidden", {}, r"training\.ignore_index: -100, because y_train has this negative label\. Got: none"),
        ("hidden", {"training__ignore_index": -1}, r"training\.ignore_index: -100, because y_train .*Got: -1"),
        ("hidden", {"training__loss": "token_loss"}, r"training\.loss: 'cross_entropy' with training\.ignore_index"),
        ("hidden_test", {"training__ignore_index": 1}, r"training\.ignore_index: .*leaves some targets of y_test"),
        (
            "hidden_validation",
            {"training__ignore_index": -100, "dataset__validation_fraction": 0.1, "dataset__data_seed": 1},
            r"training\.ignore_index: .*leaves some targets of y_(validation|train)",
        ),
        (
            "rare",
            {"model__family": "network", "training__class_weights": "balanced", "grid__train_size": [8, 40]},
            r"training\.class_weights: .*none of class \d",
        ),
        ("rare", {"model__family": "network", "training__loss": "not_a_number"}, r"training\.loss: finite values"),
        ("rare", {"model__family": "network", "fit__metric": "text"}, r"fit\.metric: a number .*the text '0\.5'"),
        ("one_class_each", {"model__family": "transformer", "model__heads": 1}, r"needs model\.read_out = 'mean'"),
        (
            "one_class_each",
            {"model__family": "mlp"},
            r"'transformer' or a factory of yours, for .* tokens",
        ),
        (
            "liar",
            {"model__family": "network"},
            r"liar train: as many items as its length states, 60\. Got",
        ),
        ("unequal", {"model__family": "network"}, r"unequal test: .*the training items, \[6\]: one collate function"),
        ("named", {"model__family": "two_inputs"}, r"maps one dictionary of 'ids', 'mask', of two examples"),
    ],
)
def test_it_is_refused(
    data: str, changes: dict[str, Any], message: str, make_spec: Callable[..., SweepSpec],
    user_module: Callable[[str], str],
) -> None:  # fmt: skip
    name = user_module(MODULE)
    stated = {"model__family": "model", **changes}
    for key in ("model__family", "training__loss", "fit__metric"):
        if key in stated and stated[key] not in ("mlp", "transformer"):
            stated[key] = f"{name}:{stated[key]}"
    if "fit__metric" in stated:
        stated["fit__direction"] = "max"
    spec = make_spec(
        dataset={"name": f"{name}:{data}", **_section("dataset", stated)}, model=_section("model", stated),
        grid__parameterization=["own"], grid__batch_size=[4], **_others(stated),
    )  # fmt: skip
    with pytest.raises(BadInput, match=message):
        check_grid(Grid(spec))


def _section(section: str, stated: dict[str, Any]) -> dict[str, Any]:
    prefix = f"{section}__"
    return {key.removeprefix(prefix): value for key, value in stated.items() if key.startswith(prefix)}


def _others(stated: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stated.items() if not key.startswith(("dataset__", "model__"))}
