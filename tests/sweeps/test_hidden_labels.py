"""Sweeps of data in which some examples have no label."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.grid_checks import check_grid


def test_examples_without_a_label_do_not_count(
    tmp_path: Path, make_spec: Callable[..., SweepSpec], user_module: Callable[[str], str]
) -> None:
    module = user_module(
        "import numpy as np\n"
        "X = np.random.default_rng(0).normal(size=(60, 4)).astype('float32')\n"
        "Y = (X[:, 0] > 0).astype(int)\n"
        "def hidden():\n"
        "    return X[:40], np.where(np.arange(40) < 10, -100, Y[:40]), X[40:], Y[40:]\n"
        "def labeled():\n"
        "    return X[:40], Y[:40], X[40:], Y[40:]\n"
    )

    def runs(name: str, **training: Any) -> pd.DataFrame:
        spec = make_spec(
            dataset={"name": f"{module}:{name}", "standardize": False},
            training={"steps": 40, "evaluations": 4, **training},
        )
        return sweep(spec, tmp_path / name, quiet=True).runs()

    hidden, labeled = runs("hidden", ignore_index=-100), runs("labeled")
    assert (hidden.status == "completed").all() and hidden.test_accuracy.max() > 0.7
    # A tenth to a quarter of the labels are hidden, so the losses differ, and so do the shares of the larger class.
    assert not np.allclose(hidden.train_loss, labeled.train_loss)
    share = np.mean(importlib.import_module(module).Y[10:40])
    assert hidden.chance_accuracy.iloc[0] == pytest.approx(max(share, 1 - share))


def test_training_metrics_of_tokens_are_those_of_examples_with_labels(
    tmp_path: Path, make_spec: Callable[..., SweepSpec], user_module: Callable[[str], str]
) -> None:
    """Of 40 training examples one has labels, and the training metrics are measured on three."""
    module = user_module(
        "import numpy as np\n"
        "X, X_TEST = np.random.default_rng(0).integers(0, 5, (40, 7)), np.arange(21).reshape(3, 7) % 5\n"
        "def data():\n"
        "    y = np.full((40, 7), -100)\n"
        "    y[3] = X[3]\n"
        "    return X, y, X_TEST, X_TEST\n"
    )
    spec = make_spec(
        dataset={"name": f"{module}:data"}, model={"family": "transformer", "heads": 1}, grid__width=[2, 4],
        training={"steps": 4, "evaluations": 2, "ignore_index": -100},
    )  # fmt: skip
    runs = sweep(spec, tmp_path / "study", quiet=True).runs()
    assert (runs.status == "completed").all() and np.isfinite(runs.train_loss).all()


def test_every_training_size_keeps_some_labels(
    make_spec: Callable[..., SweepSpec], user_module: Callable[[str], str]
) -> None:
    module = user_module(
        "import numpy as np\n"
        "X = np.random.default_rng(0).normal(size=(60, 4)).astype('float32')\n"
        "Y = np.full(60, -100)\n"
        "Y[[7, 23]] = 0, 1\n"
        "def data():\n"
        "    return X, Y, X[:4], np.arange(4) % 2\n"
    )
    spec = make_spec(
        dataset={"name": f"{module}:data"}, grid__train_size=[4, 60], training__ignore_index=-100, grid__batch_size=[2]
    )
    with pytest.raises(BadInput, match=r"training\.ignore_index: a label that leaves some targets of y_train"):
        check_grid(Grid(spec))
