"""What a sweep says about its data, and what its folder records for a recommendation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from noisescale.input_shapes import vocabulary_of
from noisescale.store import Study
from noisescale.sweeps import SweepSpec
from noisescale.sweeps.grid import Grid
from noisescale.sweeps.session import record_data

MakeSpec = Callable[..., SweepSpec]


def test_the_vocabulary_and_the_entropy_are_recorded(tmp_path: Path, make_spec: MakeSpec) -> None:
    grid = Grid(make_spec(dataset__name="language", dataset__context=5, dataset__vocabulary=6))
    record_data(tmp_path, grid)
    study = Study(tmp_path, {})
    shape, classes = study.data_shape()
    assert (shape, vocabulary_of(shape), classes) == ((5,), 6, 6)
    assert study.data_digests() == {0.0: (grid.dataset(0.0).hash,)}
    assert json.loads((tmp_path / "data.json").read_text())["entropy"] == grid.dataset(0.0).entropy
    assert any("nats per token" in note for note in grid.notes())


def test_numbers_have_no_vocabulary(tmp_path: Path, make_spec: MakeSpec) -> None:
    record_data(tmp_path, Grid(make_spec()))
    shape, classes = Study(tmp_path, {}).data_shape()
    assert (shape, vocabulary_of(shape), classes) == ((1, 8, 8), None, 10)
    assert set(json.loads((tmp_path / "data.json").read_text())) == {"name", "input_shape", "num_classes", "digests"}


def test_a_sweep_says_what_of_a_loader_it_does_not_use(monkeypatch: pytest.MonkeyPatch, make_spec: MakeSpec) -> None:
    pairs = TensorDataset(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2)
    module = ModuleType("own_loaders")
    module.data = lambda: (DataLoader(pairs, shuffle=True), pairs)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_loaders", module)
    spec = make_spec(dataset__name="own_loaders:data", dataset__train_size=None, dataset__test_size=None)
    (note,) = Grid(spec).notes()
    assert "train: its shuffle is not used" in note
