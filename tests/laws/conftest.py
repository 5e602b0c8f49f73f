"""Fixtures: a planted study, which is a simulated table of runs with a known law, stability edge and seed noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.laws.planted_curves import skewed

TRAIN_SIZE = 4000
WIDTHS = (16, 32, 64, 128, 256)
BATCHES = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128)
RATES = tuple(0.25 * math.sqrt(2) ** k for k in range(16))
STABILITY_RATES = tuple(0.5 * 2 ** (k / 4) for k in range(28))
STABILITY_BATCHES = (1, 4, 16, 64)


@dataclass(frozen=True)
class PlantedStudy:
    spec: dict[str, Any]
    table: pd.DataFrame
    truth: dict[str, Any] = field(default_factory=dict)

    def runs(self) -> pd.DataFrame:
        return self.table.copy()


def planted_edge(width: float, batch: float, exponent: float = 0.0) -> float:
    """Return the planted stability edge ε_½(B) = 24·B/(B + 4)·(width/64)^exponent."""
    return 24 * batch / (batch + 4) * (width / 64) ** exponent


def planted_optimum(width: float, slope: float = 1.0, at_64: float = 1000.0) -> float:
    """Return the normalized noise scale ḡ at the planted optimum of a width."""
    return at_64 * (width / 64) ** slope


@pytest.fixture(scope="session")
def make_study() -> Callable[..., PlantedStudy]:
    def make(
        *,
        widths: Sequence[int] = WIDTHS,
        rates: Sequence[float] = (1.0,),
        batches: Sequence[int] = BATCHES,
        seeds: int = 8,
        slope: float = 1.0,
        deviation: float = 0.004,
        steps: int | None = 5000,
        epochs: int | None = None,
        parameterization: str = "ntk",
        stability: bool = True,
        edge_exponent: float = 0.0,
        late: Callable[[float, float], bool] = lambda width, noise: True,
        select_on: str = "test",
        metric: str = "accuracy",
        random_seed: int = 0,
    ) -> PlantedStudy:
        generator = np.random.default_rng(random_seed)
        rows = []
        for width, rate, batch in itertools.product(widths, rates, batches):
            noise = rate * (TRAIN_SIZE / batch - 1)
            if noise <= 0:
                continue
            normalized = noise * (1.0 if parameterization == "ntk" else width / 2)
            run_steps = steps if steps else epochs * (TRAIN_SIZE // batch)
            x = math.log(normalized / planted_optimum(width, slope))
            diverged = rate > planted_edge(width, batch, edge_exponent)
            peak = 0.6 + 0.01 * math.log2(width / 64)
            for seed in range(seeds):
                accuracy = peak + float(skewed(np.array(x))) + deviation * generator.standard_normal()
                loss = 1.0 - 2 * float(skewed(np.array(x + 0.5))) + deviation * generator.standard_normal()
                rows.append(
                    {
                        "purpose": "sweep",
                        "parameterization": parameterization,
                        "width": width,
                        "learning_rate": rate,
                        "batch_size": batch,
                        "momentum": 0.0,
                        "weight_decay": 0.0,
                        "init_scale": 2.0,
                        "label_noise": 0.0,
                        "seed": seed,
                        "steps": run_steps,
                        "epochs": run_steps * batch / TRAIN_SIZE,
                        "train_size": TRAIN_SIZE,
                        "status": "diverged" if diverged else "completed",
                        "collapsed": False,
                        "late": late(width, noise),
                        "chance_accuracy": 0.1,
                        "chance_loss": math.log(10),
                        "test_accuracy": math.nan if diverged else accuracy,
                        "test_loss": math.nan if diverged else loss,
                        "validation_accuracy": math.nan if diverged else accuracy + 0.001,
                        "validation_loss": math.nan if diverged else loss,
                        "noise_scale": noise,
                        "temperature": rate / batch,
                        "normalized_noise_scale": normalized,
                    }
                )
        if stability:
            for width, batch, seed in itertools.product(widths, STABILITY_BATCHES, range(8)):
                threshold = planted_edge(width, batch, edge_exponent) * math.exp(0.1 * generator.standard_normal())
                for rate in STABILITY_RATES:
                    noise = rate * (TRAIN_SIZE / batch - 1)
                    rows.append(
                        {
                            **rows[0],
                            "purpose": "stability",
                            "width": width,
                            "batch_size": batch,
                            "learning_rate": rate,
                            "seed": seed,
                            "steps": 300,
                            "status": "diverged" if rate >= threshold else "completed",
                            "noise_scale": noise,
                            "normalized_noise_scale": noise * (1.0 if parameterization == "ntk" else width / 2),
                        }
                    )
        spec = {
            "name": "planted",
            "fit": {"select_on": select_on, "metric": metric},
            "training": {"steps": steps, "epochs": epochs, "sampling": "epoch_shuffle"},
            "grid": {},
        }
        return PlantedStudy(spec, pd.DataFrame(rows))

    return make
