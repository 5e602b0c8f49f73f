"""The runs of a study, split into groups (equal hyperparameters) and series (equal learning rate or batch size)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.store import diverged_or_collapsed
from noisescale.training import hyperparameter_names

# Options that some parameterizations need. A study has one value of each per parameterization.
TABLE_OPTIONS = ("base_width", "query_rows")
# Options of the training. A study has one value of each, and a recommendation holds for that value.
TRAINING_OPTIONS = (
    "nesterov",
    "decay",
    "no_decay",
    "clip_norm",
    "augmentation",
    "rate_multipliers",
    "checkpoint",
    "fixed",
)
# Column of the budgets that a study compares.
_BUDGET = "compared_budget"
# Names of budgets and training sizes among the hyperparameters of a group.
SIZES = ("steps", "epochs", "train_size")
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


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ only in width, learning rate, batch size, seed and budget.

    Args:
        hyperparameters: Value of each hyperparameter and option that the table has, by name.
        varied: Hyperparameters that differ between the groups of the study.
        sweep: Runs of the grid, one row each.
        stability: Runs of the stability ladders, one row each.
        price: Runs of the cells that measure the price of a larger rate, one row each.
    """

    hyperparameters: dict[str, Any]
    varied: dict[str, Any]
    sweep: pd.DataFrame
    stability: pd.DataFrame
    price: pd.DataFrame


def run_groups(runs: pd.DataFrame, budget: str = "steps", budgets: Sequence[float] = ()) -> list[RunGroup]:
    """Split the runs of a study into groups by hyperparameters, and by budgets and training sizes that it compares.

    Args:
        runs: Table of runs, one row each. Rows with the status "failed" (a fault of the machine) are left out.
        budget: Budget that the spec fixes, "steps" or "epochs".
        budgets: Budgets that the spec compares; empty for one. A sweep may extend the largest.

    Returns:
        The groups, in order of first appearance.

    Raises:
        BadInput: A column is missing, or no run of the grid has finished.
    """
    if runs.empty:  # before the first run has finished, the table has no columns either
        raise BadInput("study", _A_RUN, "none: `noisescale sweep` trains them")
    missing = [name for name in _REQUIRED if name not in runs.columns]
    if missing:
        raise BadInput("runs", f"the columns {', '.join(missing)}", "a table without them")
    table = runs[runs["status"] != "failed"].copy()
    table["diverged_or_collapsed"] = diverged_or_collapsed(table)
    for name in ("learning_rate", "batch_size"):
        # Rates computed from a noise scale can differ in the last bit between seeds or widths.
        distinct, inverse = np.unique(table[name].to_numpy(dtype=np.float64), return_inverse=True)
        table[name] = np.array([float(f"{value:.10g}") for value in distinct])[inverse]
    if not (table["purpose"] == "sweep").any():
        raise BadInput("study", _A_RUN, "none: `noisescale sweep` trains them")
    names = [name for name in _group_keys() if name in table.columns]
    sizes = [_BUDGET] if budgets else []
    if budgets:
        table[_BUDGET] = _nearest(table["steps"] / _steps_per_unit(table, budget), budgets)
    if table.loc[table["purpose"] == "sweep", "train_size"].nunique() > 1:
        sizes.append("train_size")
    # Runs of version 0.1 do not know their code, so they are taken as runs of the first code that is known.
    if "code" in table and len(codes := [code for code in table["code"].unique() if code]) > 1:
        table["code"] = table["code"].where(table["code"] != "", codes[0])
        names.append("code")
    options = [name for name in (*TABLE_OPTIONS, *TRAINING_OPTIONS) if name in table.columns]
    groups = []
    ladders, grid, prices = (table[table["purpose"] == purpose] for purpose in ("stability", "sweep", "price"))
    varied = [name for name in names if _varies(grid, name)] + sizes
    for sweep in [part for _, part in grid.groupby(varied, sort=False, dropna=False)] if varied else [grid]:
        values = {name: _plain(sweep[name].iloc[0]) for name in [*names, *options, *sizes]}
        stability = ladders if ladders.empty else _ladders_of(sweep, ladders, names)
        price = prices if prices.empty else prices.merge(sweep[names].iloc[:1], on=names)
        if "train_size" in sizes:
            stability, price = (part[part["train_size"] == values["train_size"]] for part in (stability, price))
        differing = {name: values[name] for name in varied}
        for named in (values, differing):
            if _BUDGET in named:
                amount = named.pop(_BUDGET)
                named[budget] = int(amount) if amount == int(amount) else amount
        groups.append(RunGroup(values, differing, sweep, stability, price))
    return groups


def _ladders_of(sweep: pd.DataFrame, ladders: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the stability runs of a group: those with its schedule, or, if there are none, those of constant rates.

    The stability edge is compared with the peak rate of a schedule.
    """
    matching: pd.DataFrame = ladders.merge(sweep[names].iloc[:1], on=names)
    if len(matching) or "schedule" not in names:
        return matching
    shared = [name for name in names if name != "schedule"]
    constant = ladders[ladders["schedule"] == "constant"]
    return constant.merge(sweep[shared].iloc[:1], on=shared)


def _group_keys() -> tuple[str, ...]:
    """Return the keys of a run that define its group. No law is fitted across groups."""
    shared = ("weight_decay", "init_scale", "label_noise", "schedule")
    return ("optimizer", "parameterization", *hyperparameter_names(), *shared)


def _varies(grid: pd.DataFrame, name: str) -> bool:
    """Return whether a hyperparameter differs between runs of one optimizer; other optimizers may lack it."""
    if name == "optimizer" or "optimizer" not in grid:
        return grid[name].nunique(dropna=False) > 1
    return bool((grid.groupby("optimizer")[name].nunique(dropna=False) > 1).any())


def axis_of(sweep: pd.DataFrame, quantity: str) -> str:
    """Return the column along which the ladders of a group run.

    The column is "batch_size" if there are more batch sizes per rate than rates per batch size, and "learning_rate"
    otherwise. For an optimizer without a noise scale (`quantity` is "learning_rate") the column is always
    "learning_rate", because no law then relates different batch sizes.
    """
    if quantity == "learning_rate":
        return "learning_rate"
    rates, batches = ladder_lengths(sweep)
    return "batch_size" if batches > rates else "learning_rate"


def ladder_lengths(sweep: pd.DataFrame) -> tuple[float, float]:
    """Return the median number of rates at a batch size, and of batch sizes at a rate."""
    rates = sweep.groupby(["width", "batch_size"])["learning_rate"].nunique().median()
    batches = sweep.groupby(["width", "learning_rate"])["batch_size"].nunique().median()
    return float(rates), float(batches)


def series_of(sweep: pd.DataFrame, axis: str) -> Iterator[tuple[float, pd.DataFrame]]:
    """Yield each value of the fixed column with its runs, in increasing order of the value."""
    fixed = "learning_rate" if axis == "batch_size" else "batch_size"
    for value, runs in sweep.groupby(fixed, sort=True):
        yield float(str(value)), runs


def budget_levels(runs: pd.DataFrame, budget: str) -> pd.Series:
    """Return the budget of each run in the unit in which the spec states it, "steps" or "epochs"."""
    if budget == "steps":
        return runs["steps"].astype(float)
    # An epoch consists of the whole batches of one pass, so steps divided by batches per pass is the spec's number of
    # epochs at every batch size. If the batch size changes during a run, this quotient is not defined; such a run
    # records its epochs in `epochs_budget`.
    levels = (runs["steps"] / _steps_per_unit(runs, budget)).round()
    return runs["epochs_budget"].astype(float).fillna(levels) if "epochs_budget" in runs else levels


def _steps_per_unit(runs: pd.DataFrame, budget: str) -> pd.Series:
    if budget == "steps":
        return pd.Series(1.0, runs.index)
    return (runs["train_size"] // runs["batch_size"]).astype(float)


def _nearest(amounts: pd.Series, budgets: Sequence[float]) -> NDArray[np.float64]:
    """Return the budget of the spec that is nearest to each amount, by its ratio. Steps of an epoch are rounded."""
    known = np.array(sorted(budgets))
    apart = np.abs(np.log(amounts.to_numpy(dtype=np.float64)[:, None] / known))
    return np.asarray(known[apart.argmin(axis=1)])


def complete_budget(runs: pd.DataFrame, budget: str) -> pd.DataFrame:
    """Return the runs of one width at the largest budget that every cell and seed of the width has reached.

    A sweep extends the budget of a whole width. If an extension is unfinished, the last complete budget counts.

    Args:
        runs: Runs of one width of one series, one row each.
        budget: Budget that the spec fixes, "steps" or "epochs".

    Returns:
        The runs at that budget, one for each cell and seed.
    """
    levels = budget_levels(runs, budget)
    if levels.nunique() == 1:
        return runs.drop_duplicates(["learning_rate", "batch_size", "seed"], keep="last")
    all_cells = runs.groupby(["learning_rate", "batch_size"]).ngroups
    by_level = {}
    for level, part in runs.groupby(levels):
        distinct = part.drop_duplicates(["learning_rate", "batch_size", "seed"], keep="last")
        by_level[float(str(level))] = (
            distinct.groupby(["learning_rate", "batch_size"]).ngroups,
            len(distinct),
            distinct,
        )
    most = max(count for _, count, _ in by_level.values())
    complete = [level for level, (cells, count, _) in by_level.items() if cells == all_cells and count == most]
    chosen = max(complete) if complete else max(by_level, key=lambda level: (by_level[level][1], level))
    return by_level[chosen][2]


def _plain(value: Any) -> Any:
    item = value.item() if hasattr(value, "item") else value
    return None if isinstance(item, float) and item != item else item
