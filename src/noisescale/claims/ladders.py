"""From the fits of studies to statistics and figures of claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.claims.claim import Curve
from noisescale.claims.criterion import Criterion, Statistic
from noisescale.laws.fitting import fit
from noisescale.laws.interval import Estimate, two_sided
from noisescale.laws.power_laws import PowerLaw, power_law
from noisescale.laws.results import Group, MetricOptimum, Series
from noisescale.laws.study_shape import StudyLike

Floats = NDArray[np.float64]
LATE = "share of runs that are late"


def series_of_study(study: StudyLike) -> tuple[Group, Series]:
    """The first group of a study's fit, and its primary ladder."""
    group = fit(study).groups[0]
    return group, group.series[group.primary]


def line(name: str, law: PowerLaw, seeds: int, criterion: Criterion) -> Statistic:
    """The slope of a power law as a statistic; open where the law is inconclusive."""
    if law.status != "ok":
        return Statistic(name, Estimate(math.nan, -math.inf, math.inf, "1", law.advice), (), seeds, criterion)
    errors = law.slope_errors()
    if not errors:  # a likelihood interval, calibrated to the t of the line's degrees of freedom
        nu = len(law.widths) - 2.0
        scatter = (((law.slope.high - law.slope.low) / 2 / two_sided(nu), nu),)
        return Statistic(name, law.slope, (), seeds, criterion, scatter)
    return Statistic(name, law.slope, errors[:1], seeds, criterion, errors[1:])


def law_of(
    places: Sequence[float], optima: Sequence[MetricOptimum], values: Sequence[Estimate], name: str, of: str
) -> PowerLaw:
    """The power law of a quantity at the optima against a positive place of theirs, over those that a law may use.

    Arguments:
        places: [M], what takes the part of width. values: [M], the quantity at each optimum. name, of: quantity, place.
    """
    used = [index for index, found in enumerate(optima) if found.in_law and not found.curve.censored]
    law = power_law(
        np.array([places[index] for index in used]),
        np.array([math.log(values[index].value) for index in used]),
        np.array([optima[index].curve.standard_error for index in used]),
        degrees=np.array([optima[index].curve.seeds - 1.0 for index in used]),
        quantity=name,
    )
    return replace(law, slope=replace(law.slope, convention=f"exponent of the {of} in the {name}"))


def points(label: str, law: PowerLaw) -> Curve:
    """The points of a law with ± 2 standard errors."""
    x, y, error = (np.array(own) for own in (law.widths, law.log_values, law.standard_errors))
    return Curve(label, x, np.exp(y), np.exp(y - 2 * error), np.exp(y + 2 * error))


def through(label: str, law: PowerLaw, slope: float, kind: Literal["theory", "reference"] = "theory") -> Curve:
    """The line of a stated slope through the middle of a law's points."""
    x = np.sort(law.widths)
    if not len(x):
        return Curve(label, x, x, kind=kind)
    middle = float(np.mean(law.log_values))
    return Curve(label, x, np.exp(middle + slope * (np.log(x) - np.log(x).mean())), kind=kind)


def table(studies: Sequence[StudyLike]) -> pd.DataFrame:
    """The runs of the grids of several studies; `failed` says which diverged or collapsed, and `accuracy`, `loss` and
    `final_accuracy` are at chance there.

    The column `budget` is of whole passes over the training set, which a spec's `epochs` are.
    """
    runs = pd.concat([study.runs() for study in studies], ignore_index=True)
    runs = runs[(runs.purpose == "sweep") & (runs.status != "failed")].copy()
    failed = (runs.status == "diverged") | runs.collapsed.fillna(False).astype(bool)
    for name in ("accuracy", "loss"):
        runs[name] = runs[f"test_{name}"].astype(float).where(~failed, runs[f"chance_{name}"].astype(float))
    final = runs.final_test_accuracy.astype(float)
    runs["failed"], runs["final_accuracy"] = failed, final.where(~failed, runs.chance_accuracy.astype(float))
    runs["budget"] = (runs.steps / (runs.train_size // runs.batch_size)).round(3)
    return runs


def share_of_late(*studies: StudyLike) -> dict[str, float]:
    """The share of runs whose test accuracy had ceased to move, as a number beside the statistics."""
    runs = pd.concat([study.runs() for study in studies], ignore_index=True)
    runs = runs[runs.purpose == "sweep"]
    return {LATE: float(runs.late.mean())}


def training_curves(study: StudyLike) -> pd.DataFrame:
    """Test accuracy at every evaluation, counted by `place`, with the keys of each run.

    Of planted runs, which have none, a curve towards the late value.
    """
    runs = study.runs()
    runs = runs[runs.purpose == "sweep"]
    names = ["run_id", "learning_rate", "batch_size", "schedule", "seed"]
    if hasattr(study, "curves"):
        own: pd.DataFrame = study.curves()[["run_id", "epoch", "test_accuracy"]].merge(runs[names], on="run_id")
        own["place"] = own.groupby("run_id").cumcount()
        return own
    parts = [
        runs.assign(
            place=place, epoch=10.0 * place, test_accuracy=0.1 + (runs.test_accuracy - 0.1) * (1 - math.exp(-place))
        )
        for place in range(8)
    ]
    return pd.concat(parts, ignore_index=True)


def survives(words: str, whole: Estimate, left: Estimate, power: float = 1.0) -> dict[str, float]:
    """The share of an effect that is left under other conditions, as a number beside; of none that is not detected.

    Arguments:
        words: of which effect, and where. whole, left: the effect, and what is left of it. power: of the share, ½ where
            both are squares.
    """
    if whole.covers(0) or not whole.bounded:
        return {f"nothing is detected that could survive {words}; size of the effect": whole.value}
    share = left.value / whole.value
    return {f"what survives {words}, as a share": math.copysign(abs(share) ** power, share)}


def cell(runs: pd.DataFrame, column: str = "accuracy", **where: float) -> Floats:
    """A column of the runs of one cell in the order of their seeds [S]; empty where there is no such cell."""
    for name, value in where.items():
        runs = runs[np.isclose(runs[name].astype(float), value, rtol=1e-6)]
    found: Floats = runs.sort_values("seed")[column].to_numpy(dtype=np.float64)
    return found


def slopes(x: Floats, y: Floats) -> Floats:
    """Least-squares slopes [S] of y [S, M] on x [M]; nan where there is no second place."""
    if len(x) < 2:
        return np.full(len(y), math.nan)
    away = x - x.mean()
    # Less a value of each seed's own, so that the slope of equal values is 0 and not what rounding leaves.
    found: Floats = (y - y[:, :1]) @ away / np.sum(away**2)
    return found


def run_count(*studies: StudyLike) -> int:
    """Runs of several studies, stability ladders included."""
    return sum(len(study.runs()) for study in studies)
