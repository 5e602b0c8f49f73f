"""What trackers want of a run: what it was given, what it found, and its curves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from noisescale.errors import BadInput
from noisescale.store import MEASURES, Study

# What a run was given; of these, those that vary in a study are its hyperparameters for a tracker.
GIVEN = (
    "parameterization", "width", "learning_rate", "batch_size", "momentum", "weight_decay", "init_scale", "label_noise",
    "schedule", "steps", "seed",
)  # fmt: skip
FOUND = (
    *MEASURES, "final_test_accuracy", "best_test_accuracy", "noise_scale", "temperature", "normalized_noise_scale",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A run as a tracker has it.

    Args:
        given: Hyperparameters that vary in the study.
        fixed: The others.
        found: Finite results, late-time means.
        curves: Name to (step, value) pairs, finite ones only.
        status: Completed or diverged.
    """

    run_id: str
    status: str
    seconds: float
    given: dict[str, Any]
    fixed: dict[str, Any]
    found: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]


def entries(study: Study) -> Iterator[Entry]:
    """Every finished run of the grid; runs of the stability ladder have no place in a tracker's comparison.

    Raises:
        BadInput: There is none.
    """
    runs = study.finished()
    runs = runs[runs.purpose == "sweep"]
    if runs.empty:
        raise BadInput(str(study.folder), "a study with at least one finished run of its grid", "none")
    curves = dict(tuple(study.curves().groupby("run_id", sort=False)))
    varied = [name for name in GIVEN if runs[name].nunique(dropna=False) > 1]
    for row in runs.to_dict("records"):
        yield Entry(
            run_id=row["run_id"],
            status=row["status"],
            seconds=float(row["seconds"]),
            given={name: row[name] for name in varied},
            fixed={name: row[name] for name in (*GIVEN, "dataset", "family") if name not in varied},
            found={name: float(row[name]) for name in FOUND if _is_number(row.get(name))},
            curves=_pairs(curves.get(row["run_id"], pd.DataFrame())),
        )


def _pairs(curves: pd.DataFrame) -> dict[str, list[tuple[int, float]]]:
    if curves.empty:
        return {}
    found = {
        name: [(int(step), float(value)) for step, value in zip(curves.step, curves[name], strict=True)
               if math.isfinite(value)]
        for name in MEASURES
        if name in curves
    }  # fmt: skip
    return {name: pairs for name, pairs in found.items() if pairs}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
