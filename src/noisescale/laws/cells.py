"""The cells of one width: their places on the noise axis, their metrics by seed, and whether they may be used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.laws.interval import Estimate, mean_over_seeds

Array = NDArray[np.float64]

METRICS = ("accuracy", "loss")
_MINIMUM_SEEDS = 3


@dataclass(frozen=True)
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
        accuracy: mean over seeds with its Student t interval, failed runs at chance; NaN where there is none.
        loss: the same, failed runs at the chance loss, in the unit of the study's loss.
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
    accuracy: Estimate
    loss: Estimate


@dataclass(frozen=True)
class Ladder:
    """The cells of one width in order of noise, with the metrics of the seeds that all cells share.

    Args:
        cells: in increasing order of noise.
        x: natural log of the normalized noise scale (of the noise scale where no layer grows), shape [cells].
        seeds: the seeds that every cell has.
        values: metric name ("test_accuracy", ...) to its table, shape [seeds, cells]; only those that were measured.
        normalized: whether x is of the normalized noise scale.
        log_ratio: log(ḡ/g) of the width; 0 where no layer grows.
        train_size: N, examples.
    """

    cells: tuple[Cell, ...]
    x: Array
    seeds: tuple[int, ...]
    values: dict[str, Array]
    normalized: bool
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


def build_ladder(runs: pd.DataFrame, select_on: str, loss_unit: str = "nats") -> Ladder:
    """Order the runs of one width of one series into a ladder.

    Args:
        runs: one row for each cell and seed.
        select_on: "test" or "validation", whose means the cells show.
        loss_unit: unit of the study's loss.

    Returns:
        The ladder; cells without noise (B = N without replacement) are left out.
    """
    runs = runs[runs["noise_scale"] > 0]
    cells = [part for _, part in runs.groupby(["learning_rate", "batch_size"])]
    cells.sort(key=lambda part: float(part["noise_scale"].iloc[0]))
    normalized = bool(runs["normalized_noise_scale"].notna().all()) and len(runs) > 0
    column = "normalized_noise_scale" if normalized else "noise_scale"
    x = np.log(np.array([float(part[column].iloc[0]) for part in cells], dtype=np.float64))
    ratio = runs["normalized_noise_scale"] / runs["noise_scale"]
    seeds = _shared_seeds(cells)
    values = {}
    for split in dict.fromkeys((select_on, "test")):
        for metric in METRICS:
            table = _table(cells, seeds, f"{split}_{metric}", f"chance_{metric}")
            if table is not None:
                values[f"{split}_{metric}"] = table
    return Ladder(
        tuple(_cell(part, select_on, loss_unit) for part in cells),
        x,
        seeds,
        values,
        normalized,
        float(np.log(ratio.median())) if normalized else 0.0,
        int(runs["train_size"].iloc[0]) if len(runs) else 0,
    )


def _shared_seeds(cells: list[pd.DataFrame]) -> tuple[int, ...]:
    """Seeds that every cell has; where they are fewer than three, those that most cells have."""
    if not cells:
        return ()
    sets = [{int(seed) for seed in part["seed"]} for part in cells]
    shared = set.intersection(*sets)
    if len(shared) >= _MINIMUM_SEEDS:
        return tuple(sorted(shared))
    every = sorted(set.union(*sets))
    half = len(sets) / 2
    return tuple(seed for seed in every if sum(seed in own for own in sets) > half)


def _with_chance(part: pd.DataFrame, column: str, chance: str) -> Array:
    values = part[column].to_numpy(dtype=np.float64)
    if chance in part:
        # By hand: `Series.where` would align indices that are the same, and took half of a fit's time.
        values = np.where(part["failed_run"].to_numpy(dtype=bool), part[chance].to_numpy(dtype=np.float64), values)
    return values


def _table(cells: list[pd.DataFrame], seeds: tuple[int, ...], column: str, chance: str) -> Array | None:
    if not cells or any(column not in part for part in cells) or all(part[column].isna().all() for part in cells):
        return None
    by_seed = [pd.Series(_with_chance(part, column, chance), part["seed"]).reindex(list(seeds)) for part in cells]
    return np.stack([series.to_numpy(dtype=np.float64) for series in by_seed], axis=1)


def _cell(part: pd.DataFrame, select_on: str, loss_unit: str) -> Cell:
    first = part.iloc[0]
    failures = int(part["failed_run"].sum())
    means = {}
    for metric in METRICS:
        column = f"{select_on}_{metric}"
        values = _with_chance(part, column, f"chance_{metric}") if column in part else np.array([])
        unit = "fraction" if metric == "accuracy" else loss_unit
        means[metric] = mean_over_seeds(values[~np.isnan(values)], unit, f"{select_on} {metric}, late-time mean")
    momentum = float(first["momentum"])
    return Cell(
        learning_rate=float(first["learning_rate"]),
        batch_size=float(first["batch_size"]),
        noise_scale=float(first["noise_scale"]),
        normalized_noise_scale=float(first["normalized_noise_scale"]),
        temperature=float(first["learning_rate"] / (first["batch_size"] * (1 - momentum))),
        steps=int(first["steps"]),
        runs=len(part),
        failures=failures,
        late="late" not in part or bool(part["late"].fillna(False).astype(bool).all()),
        usable=failures == 0,
        accuracy=means["accuracy"],
        loss=means["loss"],
    )
