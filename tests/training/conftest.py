"""Small runs and data sets. The plain loop is imported from here, because test folders are not packages."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from noisescale.datasets import Dataset
from noisescale.families import ModelOptions, family_factory
from noisescale.runs import LATER_KEYS, Run
from noisescale.training import PackTrainer

sys.path.insert(0, str(Path(__file__).parent))

# A pool of compiler processes would take longer than compiling the few small graphs, because each imports torch.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

DEFAULTS: dict[str, Any] = {
    "dataset": "synthetic",
    "dataset_hash": "synthetic",
    "train_size": 60,
    "test_size": 30,
    "validation_fraction": 0.0,
    "label_noise": 0.0,
    "data_seed": 0,
    "family": "mlp",
    "depth": 1,
    "activation": "relu",
    "normalization": "none",
    "parameterization": "standard",
    "width": 16,
    "learning_rate": 0.1,
    "batch_size": 8,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "init_scale": 2.0,
    "seed": 0,
    "steps": 20,
    "schedule": "constant",
    "evaluations": 2,
    "late_fraction": 0.25,
    "loss": "cross_entropy",
    "sampling": "epoch_shuffle",
    "precision": "float64",
}


class MakeRun(Protocol):
    def __call__(self, **changes: Any) -> Run: ...


class MakeData(Protocol):
    def __call__(self, shape: tuple[int, ...] = (7,), real: bool = False, examples: int = 60) -> Dataset: ...


class MakeTrainer(Protocol):
    def __call__(self, runs: list[Run], dataset: Dataset, **options: Any) -> PackTrainer: ...


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    def make(**changes: Any) -> Run:
        assert changes.keys() <= DEFAULTS.keys() | LATER_KEYS.keys() | {"purpose"}
        return Run(**{**DEFAULTS, **changes})

    return make


@pytest.fixture(scope="session")
def make_data() -> MakeData:
    def make(shape: tuple[int, ...] = (7,), real: bool = False, examples: int = 60) -> Dataset:
        generator = torch.Generator().manual_seed(5)
        x = torch.randn(examples + 30, *shape, generator=generator)
        y = torch.randn(len(x), 4, generator=generator) if real else torch.randint(4, (len(x),), generator=generator)
        train, test = slice(0, examples), slice(examples, None)
        chance = float("nan") if real else float(torch.bincount(y[train]).max() / examples)
        return Dataset("synthetic", x[train], y[train], x[:0], y[:0], x[test], y[test], shape, 4, chance, "synthetic")

    return make


@pytest.fixture(scope="session")
def make_trainer() -> MakeTrainer:
    def make(runs: list[Run], dataset: Dataset, **options: Any) -> PackTrainer:
        factory = family_factory(ModelOptions.of_run(runs[0]))
        runs = [replace(run, train_size=len(dataset.x_train)) for run in runs]
        return PackTrainer(runs, dataset, factory, reference_width=2 * runs[0].width, **options)

    return make
