"""A folder of planted runs whose optimum follows a law over width, to time `fit` and `recommend` on."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noisescale.runs import Run, RunResult, pack_id
from noisescale.store import write_shard

TRAIN_SIZE, STEPS, EVALUATIONS = 4000, 1000, 8
_PACK = 50


@dataclass(frozen=True)
class PlantedGrid:
    """The grid of a planted folder.

    Args:
        parameterizations: Names of the parameterizations; each is a group.
        widths: Widths.
        rates: Learning rates; each is a series of every group.
        batches: Batch sizes; each is a cell of every ladder.
        seeds: Number of seeds.
    """

    parameterizations: Sequence[str]
    widths: Sequence[int]
    rates: Sequence[float]
    batches: Sequence[int]
    seeds: int

    @property
    def runs(self) -> int:
        """Number of runs."""
        cells = len(self.parameterizations) * len(self.widths) * len(self.rates) * len(self.batches)
        return cells * self.seeds

    @property
    def ladders(self) -> int:
        """Number of ladders."""
        return len(self.parameterizations) * len(self.widths) * len(self.rates)


def write_planted(folder: Path, grid: PlantedGrid) -> None:
    """Write the folder of a finished sweep. The best noise scale is 8 × width.

    Args:
        folder: New folder.
        grid: The grid.
    """
    (folder / "shards").mkdir(parents=True)
    generator = np.random.default_rng(0)
    axes = (grid.parameterizations, grid.widths, grid.rates, grid.batches, range(grid.seeds))
    results = [_result(_run(*values), generator) for values in itertools.product(*axes)]
    for number in range(0, len(results), _PACK):
        pack = results[number : number + _PACK]
        write_shard(folder / "shards", pack_id([result.run for result in pack]), pack)
    spec = {
        "name": "planted",
        "seeds": list(range(grid.seeds)),
        "dataset": {"name": "mnist1d"},
        "model": {"family": "mlp", "depth": 1},
        "grid": {
            "parameterization": list(grid.parameterizations),
            "width": list(grid.widths),
            "batch_size": list(grid.batches),
            "learning_rate": list(grid.rates),
        },
        "training": {"steps": STEPS, "loss": "cross_entropy", "sampling": "epoch_shuffle"},
        "fit": {"select_on": "test", "metric": "accuracy"},
        "stability": {"steps": 300, "seeds": 0},
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    data = {"name": "mnist1d", "input_shape": [40], "num_classes": 10}
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")


def _run(parameterization: str, width: int, rate: float, batch: int, seed: int) -> Run:
    return Run(
        dataset="mnist1d", dataset_hash="0" * 64, train_size=TRAIN_SIZE, test_size=1000, validation_fraction=0.0,
        label_noise=0.0, data_seed=0, family="mlp", depth=1, activation="relu", normalization="none",
        parameterization=parameterization, width=width, learning_rate=rate, batch_size=batch, momentum=0.0,
        weight_decay=0.0, init_scale=2.0, seed=seed, steps=STEPS, schedule="constant", evaluations=EVALUATIONS,
        late_fraction=0.25, loss="cross_entropy", sampling="epoch_shuffle", precision="float32",
    )  # fmt: skip


def _result(run: Run, generator: np.random.Generator) -> RunResult:
    noise = run.learning_rate * (TRAIN_SIZE / run.batch_size - 1)
    u = min(math.log(noise / (8 * run.width)), 4.0)
    accuracy = max(0.6 - 0.04 * (math.expm1(1.2 * u) - 1.2 * u) / 1.44, 0.12) + 0.006 * generator.standard_normal()
    loss = 1.2 + 0.2 * (u - 0.3) ** 2 + 0.01 * generator.standard_normal()
    growth = 1 - np.exp(-1.5 * np.arange(EVALUATIONS + 1))
    curves = {"step": np.linspace(0, STEPS, EVALUATIONS + 1).tolist()}
    for split in ("train", "test"):
        curves[f"{split}_loss"] = (2.3 + (loss - 2.3) * growth).tolist()
        curves[f"{split}_accuracy"] = (0.1 + (accuracy - 0.1) * growth).tolist()
    last = {name: values[-1] for name, values in curves.items() if name != "step"}
    layer = {"layer": "3.weight", "fan_in": run.width, "init_variance": 2 / run.width, "multiplier": 2 / run.width}
    return RunResult(
        run=run, status="completed", diverged_at_step=None, collapsed=False, chance={"accuracy": 0.1, "loss": 2.302585},
        late_means=last, drifts=dict.fromkeys(last, 0.0), final=last, best_test_accuracy=last["test_accuracy"],
        curves=curves, layers=[{**layer, "normalized_noise_scale": noise, "is_reference": True}], seconds=0.5,
    )  # fmt: skip
