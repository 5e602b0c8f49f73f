"""Runs in the form in which experiment trackers store them: hyperparameters, results and curves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from noisescale.errors import BadInput
from noisescale.store import MEASURES, Study
from noisescale.training import hyperparameter_names

# Keys of a run that a tracker shows as hyperparameters if they vary in the study. Those of the optimizer are added.
HYPERPARAMETERS = (
    "parameterization", "width", "learning_rate", "batch_size", "optimizer", "weight_decay", "init_scale",
    "label_noise", "schedule", "steps", "seed",
)  # fmt: skip
RESULTS = (
    *MEASURES, "final_test_accuracy", "best_test_accuracy", "noise_scale", "temperature", "normalized_noise_scale",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One run for an experiment tracker.

    Args:
        run_id: The id of the run.
        status: "completed" or "diverged".
        seconds: Training time, in seconds.
        hyperparameters: Values of the hyperparameters that vary in the study, by name.
        constants: Values of the other keys of the run, by name.
        results: Results (late-time means) that are finite, by column name.
        curves: For each quantity, a list of pairs (step, value) with finite values.
    """

    run_id: str
    status: str
    seconds: float
    hyperparameters: dict[str, Any]
    constants: dict[str, Any]
    results: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]


def entries(study: Study) -> Iterator[Entry]:
    """Yield every finished run of the grid, without the runs of the stability ladder, which cannot be compared with it.

    Args:
        study: The study.

    Yields:
        One entry per run.

    Raises:
        BadInput: No run of the grid is finished.
    """
    runs = study.finished()
    runs = runs[runs.purpose == "sweep"]
    if runs.empty:
        raise BadInput(str(study.folder), "a study with at least one finished run of its grid", "none")
    curves = dict(tuple(study.curves().groupby("run_id", sort=False)))
    names = (*HYPERPARAMETERS, *hyperparameter_names(), "dataset", "family")
    varied = {name for name in names if runs[name].nunique() > 1}
    for row in runs.to_dict("records"):
        # A run lacks the hyperparameters of other optimizers.
        values = {name: row[name] for name in names if not pd.isna(row[name])}
        yield Entry(
            run_id=row["run_id"],
            status=row["status"],
            seconds=float(row["seconds"]),
            hyperparameters={name: value for name, value in values.items() if name in varied},
            constants={name: value for name, value in values.items() if name not in varied},
            results={name: float(row[name]) for name in RESULTS if _is_number(row.get(name))},
            curves=_pairs(curves.get(row["run_id"], pd.DataFrame())),
        )


def _pairs(curves: pd.DataFrame) -> dict[str, list[tuple[int, float]]]:
    if curves.empty:
        return {}
    pairs = {
        name: [(int(step), float(value)) for step, value in zip(curves.step, curves[name], strict=True)
               if math.isfinite(value)]
        for name in MEASURES
        if name in curves
    }  # fmt: skip
    return {name: curve for name, curve in pairs.items() if curve}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
