"""Fixtures that write synthetic studies with known curves, in the files of a sweep."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisescale.runs import Run, RunResult
from noisescale.store import Study, write_shard

TRAIN_SIZE, STEPS, EVALUATIONS = 4000, 1000, 8
MakeStudy = Callable[..., Study]


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    def make(**options: Any) -> Study:
        return write_study(tmp_path_factory.mktemp("study"), **options)

    return make


def write_study(
    folder: Path,
    *,
    widths: Sequence[int] = (16, 32, 64, 128, 256),
    rates: Sequence[float] = (2.0,),
    batches: Sequence[int] = (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64),
    seeds: int = 6,
    stability: bool = True,
    accuracy: bool = True,
    validation: bool = False,
    diverged: float = math.inf,
    momenta: Sequence[float] = (0.0,),
    name: str = "synthetic",
) -> Study:
    """Write a study whose best noise scale is 8 × width. Runs above the noise scale `diverged` × width diverge."""
    generator = np.random.default_rng(0)
    results = []
    for width in widths:
        for momentum, rate in itertools.product(momenta, rates):
            for batch in batches:
                # Rates shrink with momentum, so that every group has the same noise scales.
                momentum_rate = rate * (1 - momentum)
                run = {**_run(width, momentum_rate, batch, seeds, accuracy, validation), "momentum": momentum}
                g = rate * (TRAIN_SIZE / batch - 1)
                for seed in range(seeds):
                    failed = g > diverged * width
                    results.append(_result(run, seed, g, generator, failed, accuracy, validation))
        if stability:
            for batch in (2, 8, 64):
                for rung in 2.0 ** np.arange(0, 6, 0.5):
                    run = _run(width, float(rung * rates[0]), batch, seeds, accuracy, validation)
                    for seed in range(seeds):
                        edge = 3 * rates[0] * batch**0.5 * math.exp(0.2 * generator.standard_normal())
                        results.append(_ladder_result(run, seed, bool(run["learning_rate"] > edge)))
    (folder / "shards").mkdir(parents=True)
    write_shard(folder / "shards", "pack0", results)
    spec = {
        "name": name,
        "seeds": list(range(seeds)),
        "dataset": {"name": "mnist1d", "validation_fraction": 0.25 if validation else 0.0},
        "model": {"family": "mlp", "depth": 1},
        "grid": {"width": list(widths), "batch_size": list(batches), "learning_rate": list(rates)},
        "training": {"steps": STEPS, "loss": "cross_entropy" if accuracy else "mse", "sampling": "epoch_shuffle"},
        "fit": {"select_on": "validation" if validation else "test", "metric": "accuracy" if accuracy else "loss"},
        "stability": {"steps": 300, "seeds": seeds if stability else 0},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    return Study.open(folder)


def _run(width: int, rate: float, batch: int, seeds: int, accuracy: bool, validation: bool) -> dict[str, Any]:
    return {
        "dataset": "mnist1d", "dataset_hash": "a" * 64, "train_size": TRAIN_SIZE, "test_size": 1000,
        "validation_fraction": 0.25 if validation else 0.0, "label_noise": 0.0, "data_seed": 0, "family": "mlp",
        "depth": 1, "activation": "relu", "normalization": "none", "parameterization": "ntk", "width": width,
        "learning_rate": rate, "batch_size": batch, "momentum": 0.0, "weight_decay": 0.0, "init_scale": 2.0,
        "steps": STEPS, "schedule": "constant", "evaluations": EVALUATIONS, "late_fraction": 0.25,
        "loss": "cross_entropy" if accuracy else "mse", "sampling": "epoch_shuffle", "precision": "float32",
    }  # fmt: skip


def _result(
    run: dict[str, Any], seed: int, g: float, generator: np.random.Generator, failed: bool, accuracy: bool,
    validation: bool,
) -> RunResult:  # fmt: skip
    width, nan = run["width"], math.nan
    u = math.log(g / (8 * width))
    top = 0.5 + 0.03 * math.log2(width / 8)
    level = max(top - 0.04 * (math.expm1(1.2 * u) - 1.2 * u) / 1.44, 0.12)
    level += 0.006 * float(generator.standard_normal())
    loss = 1.2 + 0.2 * (u - 0.3) ** 2 + 0.01 * float(generator.standard_normal())
    growth = 1 - np.exp(-np.arange(EVALUATIONS + 1) * (0.35 if u < -1.5 else 1.2))
    splits = ("train", "test", "validation") if validation else ("train", "test")
    curves = {"step": [float(step) for step in np.linspace(0, STEPS, EVALUATIONS + 1)]}
    for split in splits:
        gain = 0.15 if split == "train" else 0.0
        curves[f"{split}_loss"] = [float(v) for v in 2.3 + (loss - 2 * gain - 2.3) * growth]
        curves[f"{split}_accuracy"] = [float(v) if accuracy else nan for v in 0.1 + (level + gain - 0.1) * growth]
    late = {key: nan if failed else float(np.mean(values[-2:])) for key, values in curves.items() if key != "step"}
    drifts = {
        key: nan if failed else float(np.mean(values[-2:]) - np.mean(values[-4:-2]))
        for key, values in curves.items()
        if key != "step"
    }
    return RunResult(
        run=Run(**run, seed=seed), status="diverged" if failed else "completed",
        diverged_at_step=STEPS // 2 if failed else None, collapsed=False,
        chance={"accuracy": 0.1 if accuracy else nan, "loss": 2.302585}, late_means=late, drifts=drifts,
        final={name: values[-1] for name, values in curves.items() if name != "step"},
        best_test_accuracy=max(curves["test_accuracy"]), curves=curves, layers=_layers(run, g), seconds=0.5,
    )  # fmt: skip


def _ladder_result(run: dict[str, Any], seed: int, failed: bool) -> RunResult:
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    values = dict.fromkeys(names, math.nan if failed else 0.5)
    short = {**run, "steps": 300, "evaluations": 1}
    g = run["learning_rate"] * (TRAIN_SIZE / run["batch_size"] - 1)
    return RunResult(
        run=Run(**short, seed=100 + seed, purpose="stability"), status="diverged" if failed else "completed",
        diverged_at_step=10 if failed else None, collapsed=False, chance={"accuracy": 0.1, "loss": 2.302585},
        late_means=values, drifts=dict.fromkeys(names, math.nan), final=values, best_test_accuracy=math.nan,
        curves={"step": [0.0, 300.0], **{name: [0.5, 0.5] for name in names}}, layers=_layers(run, g), seconds=0.05,
    )  # fmt: skip


def _layers(run: dict[str, Any], g: float) -> list[dict[str, Any]]:
    width = run["width"]
    return [
        {"layer": "1.weight", "fan_in": 40, "init_variance": 0.05, "multiplier": 0.05, "normalized_noise_scale": g,
         "is_reference": False},
        {"layer": "3.weight", "fan_in": width, "init_variance": 2 / width, "multiplier": 2 / width,
         "normalized_noise_scale": g, "is_reference": True},
    ]  # fmt: skip
