"""What the laws need of a study, and how its runs fall into groups, series and widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from noisescale.errors import BadInput, unknown_name
from noisescale.training import ACCURACY, LOSS, LOSSES, METRICS

# Whatever of these varies in a study separates its groups: no law is fitted across them.
HYPERPARAMETERS = (
    "optimizer",
    "parameterization",
    "momentum",
    "beta1",
    "beta2",
    "epsilon",
    "weight_decay",
    "init_scale",
    "label_noise",
    "schedule",
)
# What the tables of some parameterizations need beside them, one value a parameterization and study.
TABLE_OPTIONS = ("base_width", "query_rows")
# How the optimizer was run, one value a study; a recommendation holds for it.
TRAINING_OPTIONS = ("nesterov", "decay", "no_decay", "clip_norm", "augmentation")
_A_RUN = "at least one finished run of the grid"
_REQUIRED = (
    "purpose",
    "parameterization",
    "width",
    "learning_rate",
    "batch_size",
    "momentum",
    "seed",
    "steps",
    "train_size",
    "status",
    "noise_scale",
    "normalized_noise_scale",
)


class StudyLike(Protocol):
    """A study: its spec as a dictionary with defaults, and its runs as a table."""

    @property
    def spec(self) -> dict[str, Any]:
        """The spec, section by section."""

    def runs(self) -> pd.DataFrame:
        """One row a run."""


@dataclass(frozen=True)
class Settings:
    """What the spec says about fitting.

    Args:
        name: of the study.
        metric: the one whose optimum is recommended.
        select_on: "test" or "validation": the data on which the optimum is chosen.
        budget: "steps" or "epochs": which of the two the spec holds constant over cells.
        replacement: whether batches are drawn with replacement.
        units: unit of each metric, by name; those that the study has, in the order of its tables.
    """

    name: str
    metric: str
    select_on: str
    budget: str
    replacement: bool
    units: dict[str, str]

    @classmethod
    def read(cls, spec: Mapping[str, Any], select_on: str | None = None) -> Settings:
        """Read them from a spec.

        Args:
            spec: the dictionary form of the TOML, with defaults.
            select_on: overrides the spec's own choice.

        Returns:
            The settings.

        Raises:
            BadInput: A value of `fit.select_on` or `fit.metric` that is not known.
        """
        chosen = spec.get("fit") or {}
        training, grid = spec.get("training") or {}, spec.get("grid") or {}
        select = select_on or chosen.get("select_on", "test")
        metric = chosen.get("metric", "accuracy")
        if select not in ("test", "validation"):
            raise BadInput("fit.select_on", '"test" or "validation"', select)
        if metric not in METRICS:
            raise unknown_name("fit.metric", METRICS, metric)
        epochs = training.get("epochs") is not None or grid.get("epochs") is not None
        replacement = training.get("sampling") == "with_replacement"
        known = LOSSES.get(training.get("loss", ""))
        units = {ACCURACY: METRICS[ACCURACY].unit, LOSS: METRICS[LOSS].unit if known is None else known.unit}
        units.setdefault(metric, METRICS[metric].unit)
        return cls(str(spec.get("name", "")), metric, select, "epochs" if epochs else "steps", replacement, units)


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in width, rate, batch, seed and budget only.

    Args:
        hyperparameters: the value of each hyperparameter that the table has, and the options of its parameterization.
        varied: those that differ between the groups of the study.
        sweep: runs of the grid.
        stability: runs of the stability ladder.
    """

    hyperparameters: dict[str, Any]
    varied: dict[str, Any]
    sweep: pd.DataFrame
    stability: pd.DataFrame


def run_groups(runs: pd.DataFrame) -> list[RunGroup]:
    """Separate a study's runs by hyperparameters.

    Args:
        runs: the table of runs; rows whose status is "failed" (the machine's fault) are left out.

    Returns:
        The groups, in order of first appearance.

    Raises:
        BadInput: A missing column, or no finished run of the grid.
    """
    if runs.empty:  # and without columns, where nothing has finished yet
        raise BadInput("study", _A_RUN, "none: `noisescale sweep` trains them")
    missing = [name for name in _REQUIRED if name not in runs.columns]
    if missing:
        raise BadInput("runs", f"the columns {', '.join(missing)}", "a table without them")
    table = runs[runs["status"] != "failed"].copy()
    table["failed_run"] = (table["status"] == "diverged") | (
        table["collapsed"].fillna(False).astype(bool) if "collapsed" in table else False
    )
    for name in ("learning_rate", "batch_size"):
        # Rates derived from a noise axis differ in the last bit from seed to seed or width to width.
        exact, places = np.unique(table[name].to_numpy(dtype=np.float64), return_inverse=True)
        table[name] = np.array([float(f"{value:.10g}") for value in exact])[places]
    if not (table["purpose"] == "sweep").any():
        raise BadInput("study", _A_RUN, "none: `noisescale sweep` trains them")
    names = [name for name in HYPERPARAMETERS if name in table.columns]
    options = [name for name in (*TABLE_OPTIONS, *TRAINING_OPTIONS) if name in table.columns]
    groups = []
    ladders, grid = table[table["purpose"] == "stability"], table[table["purpose"] == "sweep"]
    varied = [name for name in names if _varies(grid, name)]
    for sweep in [own for _, own in grid.groupby(varied, sort=False, dropna=False)] if varied else [grid]:
        values = {name: _plain(sweep[name].iloc[0]) for name in names + options}
        # The edge is that of a constant rate; the peak of a schedule is held against it.
        shared = [name for name in names if name != "schedule"]
        stability = ladders if ladders.empty else ladders.merge(sweep[shared].iloc[:1], on=shared)
        groups.append(RunGroup(values, {name: values[name] for name in varied}, sweep, stability))
    return groups


def _varies(grid: pd.DataFrame, name: str) -> bool:
    """Whether a hyperparameter differs between runs of one optimizer: others need not have it."""
    if name == "optimizer" or "optimizer" not in grid:
        return grid[name].nunique(dropna=False) > 1
    return bool((grid.groupby("optimizer")[name].nunique(dropna=False) > 1).any())


def axis_of(sweep: pd.DataFrame, quantity: str) -> str:
    """The ladder of a group: batch_size where a rate has more batches than a batch has rates, else learning_rate.

    Without a noise scale, batches are not places of one axis, so the ladder is the learning rate.
    """
    if quantity == "learning_rate":
        return "learning_rate"
    rates = sweep.groupby(["width", "batch_size"])["learning_rate"].nunique().median()
    batches = sweep.groupby(["width", "learning_rate"])["batch_size"].nunique().median()
    return "batch_size" if batches > rates else "learning_rate"


def series_of(sweep: pd.DataFrame, axis: str) -> Iterator[tuple[float, pd.DataFrame]]:
    """The runs of each value of the axis that is held fixed, in increasing order of that value."""
    fixed = "learning_rate" if axis == "batch_size" else "batch_size"
    for value, part in sweep.groupby(fixed, sort=True):
        yield float(str(value)), part


def whole_budget(part: pd.DataFrame, budget: str) -> pd.DataFrame:
    """The runs of one width at the largest budget at which every cell and seed of that width was run.

    A budget is extended for a whole width; where an extension is unfinished, the last complete one counts.

    Args:
        part: runs of one width of one series.
        budget: the column that the spec holds constant, "steps" or "epochs".

    Returns:
        The runs at that budget, one for each cell and seed.
    """
    level = part["steps"]
    if budget == "epochs":
        # An epoch is the whole batches of one pass, so passes, unlike examples seen, are the spec's number at every
        # batch; a batch that moves has no such number, and its run says the epochs itself.
        level = (part["steps"] / (part["train_size"] // part["batch_size"])).round()
        if "epochs_budget" in part:
            level = part["epochs_budget"].astype(float).fillna(level)
    cells = part.groupby(["learning_rate", "batch_size"]).ngroups
    sizes = {}
    for value, runs in part.groupby(level):
        distinct = runs.drop_duplicates(["learning_rate", "batch_size", "seed"], keep="last")
        sizes[float(str(value))] = (distinct.groupby(["learning_rate", "batch_size"]).ngroups, len(distinct), distinct)
    most = max(count for _, count, _ in sizes.values())
    complete = [value for value, (own, count, _) in sizes.items() if own == cells and count == most]
    chosen = max(complete) if complete else max(sizes, key=lambda value: (sizes[value][1], value))
    return sizes[chosen][2]


def _plain(value: Any) -> Any:
    item = value.item() if hasattr(value, "item") else value
    return None if isinstance(item, float) and item != item else item
