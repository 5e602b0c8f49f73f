"""The cells of one width: their places on the noise axis, their metrics by seed, and whether they may be used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, model_serializer
from pydantic.dataclasses import dataclass as pydantic_dataclass

from noisescale.estimate import Estimate
from noisescale.laws.interval import mean_over_seeds

Array = NDArray[np.float64]

_MINIMUM_SEEDS = 3


@pydantic_dataclass(frozen=True)
class Cell:
    """One (learning rate, batch size) of one width.

    Args:
        learning_rate: ε.
        batch_size: B, examples.
        noise_scale: g.
        normalized_noise_scale: ḡ of the reference layer; NaN where no layer grows.
        temperature: ε/(B(1 - m)).
        steps: budget of the cell, in steps.
        runs: number of seeds.
        failures: how many of them diverged or collapsed.
        late: whether the drift of the cell is equivalent to zero.
        usable: whether the optimum may be sought here: no failure, noise above zero.
        metrics: by name, the mean over seeds with its Student t interval, failed runs at the constant predictor's
            value; NaN where the metric was not measured.
    """

    learning_rate: float
    batch_size: float
    noise_scale: float
    normalized_noise_scale: float
    temperature: float
    steps: int
    runs: int
    failures: int
    late: bool
    usable: bool
    metrics: dict[str, Estimate]

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Put the metrics beside the other fields, as JSON shows a cell."""
        values: dict[str, Any] = handler(self)
        return {**values, **values.pop("metrics")}


@dataclass(frozen=True)
class Ladder:
    """The cells of one width in order of noise, with the metrics of the seeds that all cells share.

    Args:
        cells: in increasing order of noise.
        x: natural log of the ladder's quantity, shape [cells].
        seeds: the seeds that every cell has.
        values: metric name ("test_accuracy", ...) to its table, shape [seeds, cells]; only those that were measured.
        log_ratio: log(ḡ/g) of the width; 0 where the quantity is not ḡ.
        train_size: N, examples.
    """

    cells: tuple[Cell, ...]
    x: Array
    seeds: tuple[int, ...]
    values: dict[str, Array]
    log_ratio: float
    train_size: int

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Cells in which no run failed."""
        return np.array([cell.usable for cell in self.cells], dtype=bool)

    @property
    def late(self) -> NDArray[np.bool_]:
        """Cells that are late."""
        return np.array([cell.late for cell in self.cells], dtype=bool)


def ladder_quantity(sweep: pd.DataFrame) -> str:
    """Choose the quantity by which the ladders of a group are ordered.

    Args:
        sweep: The runs of the grid of one group.

    Returns:
        A key of `QUANTITIES`: the learning rate where the optimizer has no noise scale, the normalized noise scale
        where every run has one, else the noise scale.
    """
    if bool(sweep["noise_scale"].isna().all()):
        return "learning_rate"
    return "normalized_noise_scale" if bool(sweep["normalized_noise_scale"].notna().all()) else "noise_scale"


def build_ladder(runs: pd.DataFrame, quantity: str, select_on: str, units: Mapping[str, str]) -> Ladder:
    """Order the runs of one width of one series into a ladder.

    Args:
        runs: one row for each cell and seed.
        quantity: a key of `QUANTITIES`, by which the cells are ordered.
        select_on: "test" or "validation", whose means the cells show.
        units: the unit of each metric, by name.

    Returns:
        The ladder; cells without noise (B = N without replacement) are left out.
    """
    runs = runs[runs[quantity] > 0]
    # Columns as arrays and cells as rows of them: a table for each cell takes most of a fit's time.
    rows = [np.asarray(own) for _, own in sorted(runs.groupby(["learning_rate", "batch_size"]).indices.items())]
    order = runs["learning_rate" if quantity == "learning_rate" else "noise_scale"].to_numpy(dtype=np.float64)
    rows.sort(key=lambda own: float(order[own[0]]))
    places = runs[quantity].to_numpy(dtype=np.float64)
    x = np.log(np.array([places[own[0]] for own in rows], dtype=np.float64))
    normalized = quantity == "normalized_noise_scale" and len(runs) > 0
    ratio = runs["normalized_noise_scale"] / runs["noise_scale"]
    of_runs = runs["seed"].to_numpy()
    seeds = _shared_seeds([{int(seed) for seed in of_runs[own]} for own in rows])
    measured = {
        f"{split}_{metric}": _with_chance(runs, f"{split}_{metric}", f"chance_{metric}")
        for split in dict.fromkeys((select_on, "test"))
        for metric in units
        if f"{split}_{metric}" in runs
    }
    values = {
        name: np.stack([_by_seed(found[own], of_runs[own], seeds) for own in rows], axis=1)
        for name, found in measured.items()
        if rows and not bool(runs[name].isna().all())
    }
    return Ladder(
        _cells(runs, rows, {metric: measured.get(f"{select_on}_{metric}") for metric in units}, select_on, units),
        x,
        seeds,
        values,
        float(np.log(ratio.median())) if normalized else 0.0,
        int(runs["train_size"].iloc[0]) if len(runs) else 0,
    )


def _shared_seeds(sets: list[set[int]]) -> tuple[int, ...]:
    """Seeds that every cell has; where they are fewer than three, those that most cells have."""
    if not sets:
        return ()
    shared = set.intersection(*sets)
    if len(shared) >= _MINIMUM_SEEDS:
        return tuple(sorted(shared))
    every = sorted(set.union(*sets))
    half = len(sets) / 2
    return tuple(seed for seed in every if sum(seed in own for own in sets) > half)


def _with_chance(runs: pd.DataFrame, column: str, chance: str) -> Array:
    """A metric of every run, at chance where the run failed."""
    values = runs[column].astype(float).to_numpy()
    if chance in runs:
        values = np.where(runs["failed_run"].to_numpy(dtype=bool), runs[chance].astype(float).to_numpy(), values)
    return np.asarray(values, dtype=np.float64)


def _by_seed(values: Array, of_runs: NDArray[np.int64], seeds: tuple[int, ...]) -> Array:
    """The values of a cell's runs in the order of some seeds; NaN where the cell lacks one."""
    known = dict(zip(of_runs.tolist(), values.tolist(), strict=True))
    return np.array([known.get(seed, math.nan) for seed in seeds], dtype=np.float64)


def _cells(
    runs: pd.DataFrame,
    rows: list[NDArray[np.intp]],
    measured: dict[str, Array | None],
    select_on: str,
    units: Mapping[str, str],
) -> tuple[Cell, ...]:
    names = ("learning_rate", "batch_size", "noise_scale", "normalized_noise_scale", "momentum", "steps")
    first = {name: runs[name].to_numpy() for name in names}
    failed = runs["failed_run"].to_numpy(dtype=bool)
    late = runs["late"].fillna(False).astype(bool).to_numpy() if "late" in runs else np.ones(len(runs), dtype=bool)
    found = []
    for own in rows:
        means = {}
        for metric, values in measured.items():
            known = np.array([]) if values is None else values[own]
            means[metric] = mean_over_seeds(
                known[~np.isnan(known)], units[metric], f"{select_on} {metric}, late-time mean"
            )
        rate, batch, noise, normalized, momentum, steps = (first[name][own[0]] for name in names)
        failures = int(failed[own].sum())
        found.append(
            Cell(
                learning_rate=float(rate),
                batch_size=float(batch),
                noise_scale=float(noise),
                normalized_noise_scale=float(normalized),
                temperature=float(rate / (batch * (1 - float(momentum)))) if np.isfinite(noise) else math.nan,
                steps=int(steps),
                runs=len(own),
                failures=failures,
                late=bool(late[own].all()),
                usable=failures == 0,
                metrics=means,
            )
        )
    return tuple(found)
