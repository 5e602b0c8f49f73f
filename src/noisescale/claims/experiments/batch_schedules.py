"""Schedules that increase the batch size, compared with schedules that lower the learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from noisescale.claims.equivalence_tests import equivalence, equivalent_curves
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.planted import World
from noisescale.claims.statistic import Statistic
from noisescale.claims.studies.specs import claim_spec, mnist1d_spec
from noisescale.claims.study import ClaimStudy, GpuSweeps, obtain
from noisescale.claims.sweep_runs import by_seed
from noisescale.sweeps import SweepSpec

_BATCH_SUFFIX = ' of="batch_size"'


def _schedules(cycles: int, low: float) -> list[dict[str, Any]]:
    """Return two schedules of the rate, each followed by the same schedule of the batch, and a constant schedule."""
    step = {"kind": "step", "at": [0.5, 0.75], "factor": 0.25}
    cyclic = {"kind": "cyclic", "low": low, "cycles": cycles}
    pairs = [schedule | of for schedule in (step, cyclic) for of in ({}, {"of": "batch_size"})]
    return [*pairs, {"kind": "constant"}]


def _mlps(first_seed: int) -> list[SweepSpec]:
    grid = {"learning_rate": [4.0], "batch_size": [8], "schedule": _schedules(cycles=4, low=0.25)}
    return [
        mnist1d_spec(
            "batch-schedules", first_seed, 40, dataset={"test_size": 5000}, grid=grid,
            training={"epochs": 60, "evaluations": 24},
        )
    ]  # fmt: skip


def _convnets(first_seed: int) -> list[SweepSpec]:
    spec = claim_spec(
        "gpu-batch-schedules", first_seed, 5, dataset={"name": "cifar10"}, model={"family": "convnet", "depth": 5},
        grid={"parameterization": ["standard"], "width": [64], "learning_rate": [0.005], "batch_size": [128],
              "schedule": _schedules(cycles=30, low=0.2)},
        training={"epochs": 300, "evaluations": 30, "augmentation": ["flip", "crop"]},
    )  # fmt: skip
    return [spec]


BATCH_SCHEDULES = ClaimStudy(
    "MLP, one hidden layer of width 64, NTK, MNIST-1D, ε = 4, B = 8, 60 epochs; two steps of ¼, and four cycles",
    _mlps,
    GpuSweeps(
        _convnets,
        "Convolutional networks on CIFAR-10: two schedules of the rate, the same schedules of the batch, and neither",
        "We train a network of five convolutions, with rates and cycles of our choice. The paper trains VGG-11.",
    ),
)


def replaces_the_rate(request: Request) -> Evidence:
    """C4.7: a schedule of the batch size can replace a schedule of the learning rate."""
    sweeps = obtain(request, BATCH_SCHEDULES, World(schedule_effect=0.02 if request.null else 0.0))
    runs, curves = sweeps.table(), sweeps.training_curves()
    chance = float(runs.chance_accuracy.max())

    def final(schedule: str) -> Floats:
        accuracies: Floats = runs[runs.schedule == schedule].sort_values("seed").final_accuracy.to_numpy(float)
        return accuracies

    def trajectory(schedule: str) -> Floats:
        accuracies: Floats = _trajectory(curves[curves.schedule == schedule], chance)
        return accuracies

    statistics: list[Statistic] = []
    further: list[Statistic] = []
    schedules = sorted(
        text.removesuffix(_BATCH_SUFFIX) for text in runs.schedule.unique() if text.endswith(_BATCH_SUFFIX)
    )
    kinds = {schedule: schedule.split()[0] for schedule in schedules}
    for schedule, kind in kinds.items():
        of_batch = schedule + _BATCH_SUFFIX
        statistics += equivalence(kind, final(of_batch) - final(schedule), final("constant") - final(schedule))
        further += equivalent_curves(
            f"{kind}, whole curves",
            trajectory(of_batch) - trajectory(schedule),
            trajectory("constant") - trajectory(schedule),
        )
    diagonal = np.sort(np.concatenate([final(schedule) for schedule in schedules]))[[0, -1]]
    panel = Panel(
        "test accuracy of a seed with a schedule of the rate",
        "test accuracy of the same seed",
        (
            *(Curve(f"schedule of the batch, {kind}", final(text), final(text + _BATCH_SUFFIX))
              for text, kind in kinds.items()),
            Curve("no schedule", final(schedules[0]), final("constant")),
            Curve("equal accuracies", diagonal, diagonal, kind="reference"),
        ),
    )  # fmt: skip
    return Evidence(
        statistics=tuple(statistics),
        panels=(panel,),
        runs=len(runs),
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        beside=tuple(further),
        provenance=sweeps.provenance,
    )


def _trajectory(curves: pd.DataFrame, chance: float) -> Floats:
    """Return the test accuracy [S, T]. A diverged run has the accuracy of chance."""
    trajectory: Floats = by_seed(curves, "evaluation", "test_accuracy").fillna(chance).to_numpy(dtype=np.float64)
    return trajectory
