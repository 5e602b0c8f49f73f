"""Computes one result per run from the state of a trained pack."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from noisescale.noise_laws import NOISE_SCALE
from noisescale.parameterizations import layer_rows
from noisescale.runs import Run, RunResult
from noisescale.training.initialization import InitialPack
from noisescale.training.late_window import late_mean_and_drift
from noisescale.training.metrics import metrics_of
from noisescale.training.objectives import Objective
from noisescale.training.optimizers import OPTIMIZERS
from noisescale.training.split import Split
from noisescale.training.state import NOT_DIVERGED, PackState

# A run has collapsed if its training accuracy exceeds the share of the largest class by at most this margin, or, with
# real-valued targets, if its training loss is at least 1 − margin times the loss of the best constant output.
COLLAPSE_MARGIN = 0.02


def pack_results(
    runs: Sequence[Run],
    state: PackState,
    train: Split,
    elapsed: Sequence[float],
    along: dict[str, list[float]],
    initial: InitialPack,
    objective: Objective,
    device: str,
    kernel: str,
) -> list[RunResult]:
    """Return one result per run.

    Args:
        runs: The runs of the pack.
        state: The state at the end of training.
        train: The training examples that were evaluated.
        elapsed: The part of the budget that is done at each evaluation, in steps or as a share.
        along: Curves that all runs share, by name, with one value per evaluation.
        initial: Initial state of the pack. Its tables and variances are used.
        objective: What the runs minimize.
        device: The device of the pack.
        kernel: The name of the kernel.
    """
    metrics = metrics_of(objective, runs[0].metrics)
    chance = {name: metric.constant(train) for name, metric in metrics.items()}
    seconds = sum(state.seconds.values()) / len(runs)
    layers = [
        layer_rows(table, initial.variances, _noise(run).get(NOISE_SCALE.name, math.nan))
        for run, table in zip(runs, initial.tables, strict=True)
    ]
    return [
        _result(position, run, state, chance, elapsed, along, layers[position], seconds, device, kernel)
        for position, run in enumerate(runs)
    ]


def _noise(run: Run) -> dict[str, float]:
    """Return the values of all noise measures of the run's optimizer."""
    law, replacement = OPTIMIZERS[run.optimizer].noise, run.sampling == "with_replacement"
    setting = run.batch_size, run.train_size, run.momentum
    if law is None:
        return {}
    return {name: run.learning_rate * law.per_rate(name, *setting, replacement=replacement) for name in law.measures}


def _result(
    position: int,
    run: Run,
    state: PackState,
    chance: dict[str, float],
    elapsed: Sequence[float],
    along: dict[str, list[float]],
    layers: list[dict[str, object]],
    seconds: float,
    device: str,
    kernel: str,
) -> RunResult:
    curves, measured = (
        {name: [float(values[position]) for values in entries] for name, entries in quantities.items()}
        for quantities in (state.curves, state.measured)
    )
    averaged = {f"averaged_{name}": float(values[position]) for name, values in state.averaged.items()}
    diverged_at = int(state.diverged_at[position])
    means, drifts, final = {}, {}, {}
    for name, curve in curves.items():
        means[name], drifts[name] = late_mean_and_drift(curve, elapsed, run.late_fraction)
        final[name] = curve[-1]
    diverged = diverged_at != NOT_DIVERGED
    if diverged:
        means, drifts, final = ({name: math.nan for name in curves} for _ in range(3))
    test = [value for value in curves.get("test_accuracy", []) if not np.isnan(value)]
    return RunResult(
        run=run,
        status="diverged" if diverged else "completed",
        diverged_at_step=diverged_at if diverged else None,
        collapsed=not diverged and _is_collapsed(means, chance),
        chance=chance,
        late_means=means,
        drifts=drifts,
        final=final,
        averaged=averaged,
        best_test_accuracy=max(test, default=math.nan),
        curves={"step": [float(step) for step in state.evaluated_steps], **along, **curves, **measured},
        layers=layers,
        noise=_noise(run),
        seconds=seconds,
        device=device,
        threads=torch.get_num_threads(),
        kernel=kernel,
    )


def _is_collapsed(means: dict[str, float], chance: dict[str, float]) -> bool:
    if math.isnan(means["train_accuracy"]):
        return means["train_loss"] >= (1 - COLLAPSE_MARGIN) * chance["loss"]
    return means["train_accuracy"] <= chance["accuracy"] + COLLAPSE_MARGIN
