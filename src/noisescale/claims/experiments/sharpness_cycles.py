"""Cycles of η/S, and the sharpness λ_max at the ends of their noisy and quiet halves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from noisescale.claims.criterion import below
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.in_process import small_spec, train_curves
from noisescale.claims.experiments.sharpness import BATCHES, EXAMPLES, RATES, WIDTH
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.statistic import over_seeds

_SEEDS = {"smoke": 4, "laptop": 8}
_CYCLES = {"smoke": 4, "laptop": 6}
_STEPS_PER_CYCLE = {"smoke": 800, "laptop": 2000}
# Ratio of the smaller η/S of a cycle to the larger η/S.
_LOW = 0.125


def cycles(request: Request) -> Evidence:
    """C4.9: λ_max is smaller at the end of the noisy half of a cycle of η/S than at the end of the quiet half."""
    curves = {"batch, mse": _train(request, "mse", "batch_size")}
    if request.scale == "laptop" and not request.null:
        curves["rate, mse"] = _train(request, "mse", "learning_rate")
        curves["batch, cross_entropy"] = _train(request, "cross_entropy", "batch_size")
    deciding, *others = (
        over_seeds(f"log λ_max at noisy ends minus log λ_max at quiet ends, {name}", _modulation(runs), "nats",
                   "third differences, which remove a drift; mean over cycles", below(0))
        for name, runs in curves.items()
    )  # fmt: skip
    means = curves["batch, mse"].groupby("step").lambda_max.mean()
    steps, sharpness = means.index.to_numpy(dtype=np.float64), means.to_numpy()
    panel = Panel(
        "step",
        "λ_max",
        (
            Curve("ends of noisy halves", steps[1::2], sharpness[1::2]),
            Curve("ends of quiet halves", steps[2::2], sharpness[2::2]),
        ),
    )
    return Evidence(
        statistics=(deciding,),
        panels=(panel,),
        runs=sum(runs.number.nunique() for runs in curves.values()),
        setting=f"MLP of width {WIDTH}, standard parameterization, MNIST-1D, mse, η = {RATES['mse']:g}, S = "
        f"{BATCHES['laptop'][0]} and {BATCHES['laptop'][-1]} in turn, {_CYCLES[request.scale]} cycles of "
        f"{_STEPS_PER_CYCLE[request.scale]} steps",
        beside=tuple(others),
    )


def _train(request: Request, loss: str, varied: str) -> pd.DataFrame:
    count = _CYCLES[request.scale]
    # In the null experiment, both halves have the same noise, within one percent.
    low = 0.99 if request.null else _LOW
    spec = small_spec(
        "cycles", request.seeds(_SEEDS), dataset={"test_size": 1000},
        grid={"width": [WIDTH], "learning_rate": [RATES[loss]], "batch_size": [BATCHES["laptop"][0]]},
        training={"steps": count * _STEPS_PER_CYCLE[request.scale], "loss": loss, "evaluations": 2 * count,
                  "schedule": {"kind": "cyclic", "cycles": count, "low": low, "of": varied}},
        measure={"quantities": ["lambda_max"], "at": [index / (2 * count) for index in range(2 * count + 1)],
                 "examples": EXAMPLES},
    )  # fmt: skip
    return train_curves(spec)


def _modulation(curves: pd.DataFrame) -> Floats:
    """Compute for each seed how much log λ_max differs between noisy and quiet ends, after the first cycle.

    Third differences remove a drift that is linear or quadratic in time.
    """
    table = curves.pivot(index="number", columns="step", values="lambda_max")
    logs = np.log(table.to_numpy(dtype=np.float64))[:, 2:]
    third_differences = (3 * (logs[:, 1:-2] - logs[:, 2:-1]) + logs[:, 3:] - logs[:, :-3]) / 4
    # The first difference starts at the end of a quiet half. Every second difference has the opposite sign.
    modulation: Floats = (third_differences * (-1.0) ** np.arange(third_differences.shape[1])).mean(1)
    return modulation
