"""Sweeps of data in which some examples have no label."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.sweeps import SweepSpec, sweep


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
