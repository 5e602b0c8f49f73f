"""Runs and results with given values, because the tests of the store train no models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from noisescale.runs import Run, RunResult, pack_id
from noisescale.store import write_shard

PLAIN: dict[str, Any] = {
    "dataset": "digits", "dataset_hash": "0" * 64, "train_size": 1000, "test_size": 100, "validation_fraction": 0.0,
    "label_noise": 0.0, "data_seed": 0, "family": "mlp", "depth": 1, "activation": "relu", "normalization": "none",
    "parameterization": "ntk", "width": 16, "learning_rate": 0.5, "batch_size": 32, "momentum": 0.0,
    "weight_decay": 0.0, "init_scale": 2.0, "seed": 0, "steps": 100, "schedule": "constant", "evaluations": 4,
    "late_fraction": 0.25, "loss": "cross_entropy", "sampling": "epoch_shuffle", "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    return lambda **changes: Run(**{**PLAIN, **changes})


@pytest.fixture(scope="session")
def make_result() -> Callable[..., RunResult]:
    """Return a function that builds the result of a run, with three evaluations and two layers.

    A stability run has no results on a test set.
    """

    def make(run: Run, *, drift: float = 0.0, accuracy: float = 0.9, status: str = "completed") -> RunResult:
        splits = ("train", "test") if run.purpose == "sweep" else ("train",)
        names = [f"{split}_{quantity}" for split in splits for quantity in ("loss", "accuracy")]
        diverged = status == "diverged"
        value = float("nan") if diverged else accuracy
        return RunResult(
            run=run,
            status=status,  # type: ignore[arg-type]
            diverged_at_step=7 if diverged else None,
            collapsed=False,
            chance={"accuracy": 0.1, "loss": 2.3},
            late_means=dict.fromkeys(names, value),
            drifts=dict.fromkeys(names, float("nan") if diverged else drift),
            final=dict.fromkeys(names, value),
            best_test_accuracy=value if "test_loss" in names else float("nan"),
            curves={"step": [0.0, 50.0, 100.0], **{name: [0.1, 0.5, value] for name in names}},
            layers=[
                {"layer": "1.weight", "fan_in": 64, "init_variance": 2 / 64, "multiplier": 2 / 64,
                 "normalized_noise_scale": 3.0, "is_reference": False},
                {"layer": "3.weight", "fan_in": 16, "init_variance": 2 / 16, "multiplier": 2 / 16,
                 "normalized_noise_scale": 4.0, "is_reference": True},
            ],
            seconds=0.5,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def write_pack() -> Callable[[Path, Sequence[RunResult]], Path]:
    """Return a function that writes the shard of a pack under the id of the pack."""
    return lambda folder, results: write_shard(folder, pack_id([result.run for result in results]), results)
