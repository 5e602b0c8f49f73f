"""The cells of one width, ordered into a ladder.

A cell is a pair (learning rate, batch size), trained with several seeds. A ladder has the cells of one width in order
of their noise. It also has the metrics of every seed, and the mask of the runs that failed.
"""

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
from noisescale.laws.metric_scale import fitted_values
from noisescale.laws.run_groups import ladder_lengths
from noisescale.store import falls_late, fill_failures
from noisescale.training import METRICS, Schedule, parse_schedule

Array = NDArray[np.float64]

_MINIMUM_SEEDS = 3


@pydantic_dataclass(frozen=True)
class Cell:
    """A pair (learning rate, batch size) at one width, averaged over seeds.

    Args:
        learning_rate: Learning rate ε.
        batch_size: Batch size B, in examples.
        noise_scale: Noise scale g.
        normalized_noise_scale: Normalized noise scale ḡ of the read-out (last layer); NaN if no layer grows with width.
        temperature: Temperature ε/(B(1 - m)), with momentum m.
        steps: Training budget, in steps.
        runs: Number of seeds.
        failures: Number of seeds that diverged or collapsed.
        late: True if training has converged in this cell: over the runs that did not fail, the drift of the accuracy
            (or of the loss) late in training is equivalent to zero.
        usable: True if at least one run neither diverged nor collapsed.
        seconds: Mean time of a run's training and evaluation, in seconds: the time of its pack divided by the runs of
            the pack; NaN if not recorded.
        metrics: Mean of each metric over seeds, by name, with its Student t interval. A failed run enters with the
            metric of the constant predictor. NaN if the metric was not measured.
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
    seconds: float
    metrics: dict[str, Estimate]

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the metrics as keys of the cell itself, not as a nested object."""
        values: dict[str, Any] = handler(self)
        return {**values, **values.pop("metrics")}


@dataclass(frozen=True)
class Ladder:
    """The cells of one width in order of noise, with the metrics of the seeds that all cells share.

    Args:
        cells: Cells, in increasing order of noise.
        x: Natural logarithm of the ladder's quantity (ḡ, g or ε), shape [cells].
        seeds: Seeds that every cell has. If these are fewer than three, the seeds that most cells have.
        values: Table of each measured metric ("test_accuracy", ...), by name, shape [seeds, cells], on the scale on
            which curves are fitted. A failed run has the metric of the constant predictor.
        failed: Mask of the runs that diverged or collapsed, shape [seeds, cells].
        constants: Metric of the constant predictor on that scale, by metric; NaN if not recorded.
        drifts: Drift of each metric on the test set late in training: the mean over the last window of evaluations
            minus that over the window before, averaged over seeds, by metric, shape [cells]; 0 where not recorded.
        log_ratio: log(ḡ/g) at this width; 0 if the ladder's quantity is not ḡ.
        train_size: Training set size N, in examples.
    """

    cells: tuple[Cell, ...]
    x: Array
    seeds: tuple[int, ...]
    values: dict[str, Array]
    failed: NDArray[np.bool_]
    constants: dict[str, float]
    drifts: dict[str, Array]
    log_ratio: float
    train_size: int

    @property
    def late(self) -> NDArray[np.bool_]:
        """Mask of the cells in which training has converged, shape [cells]."""
        return np.array([cell.late for cell in self.cells], dtype=bool)


def ladder_quantity(sweep: pd.DataFrame, budget: str = "steps") -> str:
    """Choose the quantity that orders the ladders of a group.

    Args:
        sweep: Grid runs of one group, one row each.
        budget: Budget that is equal over cells, "steps" or "epochs".

    Returns:
        A key of `QUANTITIES`: the learning rate if the optimizer has no noise scale, every batch is the whole training
        set or the rate falls to the end of a fixed number of steps, the normalized noise scale if every run has a value
        for it, and the noise scale otherwise.
    """
    if not bool((sweep["noise_scale"] > 0).any()) or (budget == "steps" and _has_ladders_of_falling_rates(sweep)):
        return "learning_rate"
    return "normalized_noise_scale" if bool(sweep["normalized_noise_scale"].notna().all()) else "noise_scale"


def _has_ladders_of_falling_rates(sweep: pd.DataFrame) -> bool:
    """Return whether each batch size has a ladder of rates that fall to the end of training.

    Whether such training has converged cannot be seen, and training that has not converged does not depend on the noise
    scale alone.
    """
    if "schedule" not in sweep or "late_fraction" not in sweep:
        return False
    settings = sweep[["schedule", "late_fraction"]].drop_duplicates()
    if not all(_falls_late(parse_schedule(text), share) for text, share in settings.itertuples(index=False)):
        return False
    rates, batches = ladder_lengths(sweep)
    return rates >= max(_MINIMUM_RATES, batches)


def _falls_late(schedule: Schedule, late_fraction: float) -> bool:
    ends = schedule.rate_factor(1 - late_fraction), schedule.rate_factor(1.0)
    return schedule.of == "learning_rate" and bool(falls_late(*ends))


# Fewer rates at a batch size are no ladder.
_MINIMUM_RATES = 3


def build_ladder(runs: pd.DataFrame, quantity: str, select_on: str, units: Mapping[str, str]) -> Ladder:
    """Collect the runs of one width of one series in cells, and order the cells into a ladder.

    Args:
        runs: Runs of one width, one row for each cell and seed.
        quantity: Key of `QUANTITIES`; its value orders the cells.
        select_on: Data set of the cells' means, "test" or "validation".
        units: Unit of each metric, by name.

    Returns:
        The ladder. Cells without gradient noise (B = N, drawn without replacement) are left out.
    """
    runs = runs[runs[quantity] > 0]
    # Cells are row indices into column arrays: building a table for each cell would take most of a fit's time.
    rows = [np.asarray(row) for _, row in sorted(runs.groupby(["learning_rate", "batch_size"]).indices.items())]
    order = runs["learning_rate" if quantity == "learning_rate" else "noise_scale"].to_numpy(dtype=np.float64)
    rows.sort(key=lambda row: float(order[row[0]]))
    positions = runs[quantity].to_numpy(dtype=np.float64)
    x = np.log(np.array([positions[row[0]] for row in rows], dtype=np.float64))
    normalized = quantity == "normalized_noise_scale" and len(runs) > 0
    ratio = runs["normalized_noise_scale"] / runs["noise_scale"]
    run_seeds = runs["seed"].to_numpy()
    seeds = _shared_seeds([{int(seed) for seed in run_seeds[row]} for row in rows])
    measured = {
        f"{split}_{metric}": fill_failures(runs, f"{split}_{metric}", metric, runs["diverged_or_collapsed"]).to_numpy(
            dtype=np.float64
        )
        for split in dict.fromkeys((select_on, "test"))
        for metric in units
        if f"{split}_{metric}" in runs
    }
    values = {
        name: np.stack(
            [_order_by_seed(fitted_values(column, _metric(name))[row], run_seeds[row], seeds) for row in rows], axis=1
        )
        for name, column in measured.items()
        if rows and not bool(runs[name].isna().all())
    }
    failures = runs["diverged_or_collapsed"].to_numpy(dtype=np.float64)
    failed = [_order_by_seed(failures[row], run_seeds[row], seeds) == 1 for row in rows]
    return Ladder(
        _cells(runs, rows, {metric: measured.get(f"{select_on}_{metric}") for metric in units}, select_on, units),
        x,
        seeds,
        values,
        np.stack(failed, axis=1) if rows else np.zeros((len(seeds), 0), dtype=bool),
        {metric: float(fitted_values(_constant(runs, f"chance_{metric}"), metric)) for metric in units},
        {metric: _mean_drifts(runs, metric, rows) for metric in units},
        float(np.log(ratio.median())) if normalized else 0.0,
        int(runs["train_size"].iloc[0]) if len(runs) else 0,
    )


def _shared_seeds(sets: list[set[int]]) -> tuple[int, ...]:
    """Return the seeds that every cell has, or, if these are fewer than three, the seeds that most cells have."""
    if not sets:
        return ()
    shared = set.intersection(*sets)
    if len(shared) >= _MINIMUM_SEEDS:
        return tuple(sorted(shared))
    all_seeds = sorted(set.union(*sets))
    half_of_cells = len(sets) / 2
    return tuple(seed for seed in all_seeds if sum(seed in cell_seeds for cell_seeds in sets) > half_of_cells)


def _constant(runs: pd.DataFrame, column: str) -> float:
    """Return the metric of the constant predictor; NaN if not recorded."""
    return float(runs[column].astype(float).median()) if column in runs else math.nan


def _metric(column: str) -> str:
    """Return the metric of a column such as "test_accuracy"."""
    return column.partition("_")[2]


def _mean_drifts(runs: pd.DataFrame, metric: str, rows: list[NDArray[np.intp]]) -> Array:
    """Return the mean drift of each cell over the seeds that have one, on the fitted scale; 0 if no seed has."""
    column = f"drift_test_{metric}"
    if column not in runs:
        return np.zeros(len(rows))
    values = runs[column].to_numpy(dtype=np.float64)
    if METRICS[metric].logarithmic:
        values = values / runs[f"test_{metric}"].to_numpy(dtype=np.float64)
    return np.array(
        [values[row][np.isfinite(values[row])].mean() if np.isfinite(values[row]).any() else 0.0 for row in rows]
    )


def _order_by_seed(values: Array, run_seeds: NDArray[np.int64], seeds: tuple[int, ...]) -> Array:
    """Order the values of a cell's runs by `seeds`, with NaN for a seed that the cell lacks."""
    by_seed = dict(zip(run_seeds.tolist(), values.tolist(), strict=True))
    return np.array([by_seed.get(seed, math.nan) for seed in seeds], dtype=np.float64)


def _cells(
    runs: pd.DataFrame,
    rows: list[NDArray[np.intp]],
    measured: dict[str, Array | None],
    select_on: str,
    units: Mapping[str, str],
) -> tuple[Cell, ...]:
    names = ("learning_rate", "batch_size", "noise_scale", "normalized_noise_scale", "momentum", "steps")
    columns = {name: runs[name].to_numpy() for name in names}
    failed = runs["diverged_or_collapsed"].to_numpy(dtype=bool)
    late = runs["late"].fillna(False).astype(bool).to_numpy() if "late" in runs else np.ones(len(runs), dtype=bool)
    seconds = runs["seconds"].to_numpy(dtype=np.float64) if "seconds" in runs else np.full(len(runs), math.nan)
    cells = []
    for row in rows:
        means = {}
        for metric, column in measured.items():
            values = np.array([]) if column is None else column[row]
            means[metric] = mean_over_seeds(
                values[~np.isnan(values)], units[metric], f"{select_on} {metric}, late-time mean"
            )
        rate, batch, noise, normalized, momentum, steps = (columns[name][row[0]] for name in names)
        failures = int(failed[row].sum())
        cells.append(
            Cell(
                learning_rate=float(rate),
                batch_size=float(batch),
                noise_scale=float(noise),
                normalized_noise_scale=float(normalized),
                temperature=float(rate / (batch * (1 - float(momentum)))) if np.isfinite(noise) else math.nan,
                steps=int(steps),
                runs=len(row),
                failures=failures,
                late=bool(late[row][~failed[row]].all()),
                usable=failures < len(row),
                seconds=float(seconds[row].mean()),
                metrics=means,
            )
        )
    return tuple(cells)
