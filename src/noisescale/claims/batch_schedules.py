"""Whether a batch that grows stands in for a rate that falls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from noisescale.claims.agreement import curves_alike
from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import Statistic, same
from noisescale.claims.ladders import Floats, share_of_late, table, training_curves
from noisescale.claims.planted import World
from noisescale.claims.studies import batch_schedules, obtain

_BATCH = ' of="batch_size"'


def replaces_the_rate(request: Request) -> Evidence:
    """C4.7: a schedule of the batch can replace the schedule of the rate."""
    studies = obtain(request, batch_schedules, World(schedule_effect=0.02 if request.null else 0.0))
    runs = table(studies)

    def final(schedule: str) -> Floats:
        found: Floats = runs[runs.schedule == schedule].sort_values("seed").final_accuracy.to_numpy(float)
        return found

    curves = pd.concat([training_curves(study) for study in studies], ignore_index=True)
    curves = curves[curves.epoch > 0]

    def along(schedule: str) -> Floats:
        own = curves[curves.schedule == schedule].pivot(index="seed", columns="place", values="test_accuracy")
        found: Floats = own.sort_index().fillna(float(runs.chance_accuracy.max())).to_numpy(dtype=np.float64)
        return found

    statistics: list[Statistic] = []
    beside: list[Statistic] = []
    rates = sorted(one.removesuffix(_BATCH) for one in runs.schedule.unique() if one.endswith(_BATCH))
    for rate in rates:
        moved, own = final(rate + _BATCH), final(rate)
        statistics += same(rate.split()[0], moved - own, final("constant") - own)
        beside += curves_alike(f"{rate.split()[0]}, whole curves", along(rate + _BATCH) - along(rate),
                               along("constant") - along(rate))  # fmt: skip
    line = np.sort(np.concatenate([final(rate) for rate in rates]))[[0, -1]]
    panel = Panel(
        "test accuracy with a schedule of the rate, a seed", "test accuracy of the same seed",
        (
            *(Curve(f"batch in its place, {rate.split()[0]}", final(rate), final(rate + _BATCH)) for rate in rates),
            Curve("no schedule", final(rates[0]), final("constant")),
            Curve("equal accuracies", line, line, kind="reference"),
        ),
    )  # fmt: skip
    return Evidence(
        tuple(statistics), (panel,), len(runs),
        "MLP, one hidden layer of width 64, NTK, MNIST-1D, ε = 4, B = 8, 60 epochs; two steps of ¼, and four cycles",
        share_of_late(*studies), tuple(beside),
    )  # fmt: skip
