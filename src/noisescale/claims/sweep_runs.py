"""The runs of a study's sweeps: their number, their table and their training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from noisescale.claims.panel import Floats
from noisescale.claims.planted import PlantedStudy
from noisescale.claims.provenance import Provenance, device_name
from noisescale.estimate import Estimate
from noisescale.store import Study, diverged_or_collapsed

LATE = "share of runs whose test accuracy has converged"


@dataclass(frozen=True)
class SweepRuns:
    """The runs of one or more sweeps.

    Adding two `SweepRuns` pools their runs.

    Args:
        studies: The stored or planted studies, one per sweep.
        settings: For each study, a description of what was trained, as facts separated by commas.
    """

    studies: tuple[Study | PlantedStudy, ...]
    settings: tuple[str, ...] = ()

    def __add__(self, other: SweepRuns) -> SweepRuns:
        return SweepRuns(self.studies + other.studies, self.settings + other.settings)

    @property
    def setting(self) -> str:
        """The settings in one text, without the facts that a later setting shares with the start of the first."""
        first, *others = dict.fromkeys(self.settings)
        return "; also ".join([first, *(_without_shared_start(setting, first) for setting in others)])

    @property
    def study(self) -> Study | PlantedStudy:
        """The study of a single sweep."""
        (study,) = self.studies
        return study

    @property
    def count(self) -> int:
        """Number of runs, stability ladders included."""
        return sum(len(study.runs()) for study in self.studies)

    @property
    def seeds(self) -> int:
        """Number of seeds of the first sweep."""
        return int(self.studies[0].runs().seed.nunique())

    @property
    def provenance(self) -> Provenance:
        """The sweeps, and the devices that trained them."""
        planted = [study for study in self.studies if isinstance(study, PlantedStudy)]
        trained = [study for study in self.studies if isinstance(study, Study)]
        devices = [device_name(device) for study in trained for device in study.runs().device.unique()]
        names, planted_names = (tuple(str(study.spec["name"]) for study in studies) for studies in (trained, planted))
        return Provenance(names, planted_names, tuple(dict.fromkeys(devices)))

    def table(self) -> pd.DataFrame:
        """Return one row per run of the grids. Stability ladders and runs with the status "failed" are left out.

        For runs that diverged or collapsed, the columns `accuracy`, `loss` and `final_accuracy` hold the value of the
        constant predictor. The column `budget` is the number of epochs, as in a spec.
        """
        runs = pd.concat([study.runs() for study in self.studies], ignore_index=True)
        runs = runs[(runs.purpose == "sweep") & (runs.status != "failed")].copy()
        failed = diverged_or_collapsed(runs)
        for name in ("accuracy", "loss"):
            runs[name] = runs[f"test_{name}"].astype(float).where(~failed, runs[f"chance_{name}"].astype(float))
        final = runs.final_test_accuracy.astype(float)
        runs["final_accuracy"] = final.where(~failed, runs.chance_accuracy.astype(float))
        runs["diverged_or_collapsed"] = failed
        runs["budget"] = (runs.steps / (runs.train_size // runs.batch_size)).round(3)
        return runs

    def late_share(self) -> dict[str, float]:
        """Return the share of runs whose test accuracy had converged, to report with the statistics."""
        runs = pd.concat([study.runs() for study in self.studies], ignore_index=True)
        runs = runs[runs.purpose == "sweep"]
        return {LATE: float(runs.late.mean())}

    def training_curves(self) -> pd.DataFrame:
        """Return test accuracy at every evaluation after step 0, with the keys of each run.

        The column `evaluation` numbers the evaluations of each run from 0. Planted runs have no curves, so they get
        curves that approach their test accuracy.
        """
        curves = pd.concat([_training_curves(study) for study in self.studies], ignore_index=True)
        return curves[curves.epoch > 0]


def _without_shared_start(setting: str, first: str) -> str:
    facts, first_facts = setting.split(", "), first.split(", ")
    shared = 0
    while shared < min(len(facts), len(first_facts)) and facts[shared] == first_facts[shared]:
        shared += 1
    return ", ".join(facts[shared:]) or setting


def _training_curves(study: Study | PlantedStudy) -> pd.DataFrame:
    runs = study.runs()
    runs = runs[runs.purpose == "sweep"]
    if isinstance(study, Study):
        keys = ["run_id", "learning_rate", "batch_size", "schedule", "seed"]
        curves: pd.DataFrame = study.curves()[["run_id", "epoch", "test_accuracy"]].merge(runs[keys], on="run_id")
        curves["evaluation"] = curves.groupby("run_id").cumcount()
        return curves
    curves_by_evaluation = [
        runs.assign(
            evaluation=index,
            epoch=10.0 * index,
            test_accuracy=0.1 + (runs.test_accuracy - 0.1) * (1 - math.exp(-index)),
        )  # fmt: skip
        for index in range(8)
    ]
    return pd.concat(curves_by_evaluation, ignore_index=True)


def cell_values(runs: pd.DataFrame, column: str = "accuracy", **keys: float) -> Floats:
    """Return a column of the runs of one cell, in the order of their seeds.

    Args:
        runs: The table of runs.
        column: The column to return.
        **keys: Values of the columns that select the cell.

    Returns:
        Values, shape [S]. They are empty if the table has no such cell.
    """
    for name, value in keys.items():
        runs = runs[np.isclose(runs[name].astype(float), value, rtol=1e-6)]
    values: Floats = runs.sort_values("seed")[column].to_numpy(dtype=np.float64)
    return values


def by_seed(runs: pd.DataFrame, columns: str | Sequence[str], values: str) -> pd.DataFrame:
    """Return a table of values with one row per seed, in ascending order.

    Args:
        runs: The table of runs.
        columns: Columns of `runs` whose values become the columns of the result.
        values: The column of values.
    """
    table: pd.DataFrame = runs.pivot(index="seed", columns=columns, values=values).sort_index()
    return table


def slopes(x: Floats, values: Floats) -> Floats:
    """Fit a least-squares line to each seed.

    Args:
        x: Positions, shape [M].
        values: Values by seed and position, shape [S, M].

    Returns:
        Slopes, shape [S]. They are nan if there are fewer than two positions.
    """
    if len(x) < 2:
        return np.full(len(values), math.nan)
    centered = x - x.mean()
    # Subtracting each seed's first value makes the slope of equal values exactly 0 despite rounding.
    slope: Floats = (values - values[:, :1]) @ centered / np.sum(centered**2)
    return slope


def surviving_share(effect: str, whole: Estimate, remaining: Estimate, power: float = 1.0) -> dict[str, float]:
    """Report the share of an effect that remains under other conditions.

    Args:
        effect: Text that names the effect and the other conditions.
        whole: Estimate of the effect.
        remaining: Estimate of the effect under the other conditions.
        power: Power to which the share is raised. It is ½ if both estimates are squares.

    Returns:
        One number by name: the share, or the size of the effect if it is not detected.
    """
    if whole.covers(0) or not whole.bounded:
        return {f"no effect is detected, so no share {effect}; size of the effect": whole.value}
    share = remaining.value / whole.value
    return {f"share {effect}": math.copysign(abs(share) ** power, share)}
