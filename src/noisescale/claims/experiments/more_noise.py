"""The gain in test accuracy from more noise, at noises below the optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd

from noisescale.claims.criterion import above
from noisescale.claims.cross_fitting import chosen_by_others
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.equal_noise import curve_of_means
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.planted import World
from noisescale.claims.statistic import Statistic, over_seeds
from noisescale.claims.studies.equal_noise import EQUAL_EPOCHS, EQUAL_TIME
from noisescale.claims.study import obtain
from noisescale.claims.sweep_runs import by_seed, slopes, surviving_share


def more_noise_helps(request: Request) -> Evidence:
    """C4.4: below an optimum, higher η/S leads to better test accuracy."""
    world = World(curvature=0.0) if request.null else World()
    equal_epochs, equal_time = obtain(request, EQUAL_EPOCHS, world), obtain(request, EQUAL_TIME, world)
    budgets = {"equal epochs": equal_epochs, "equal η·steps": equal_time}
    tables = {name: sweeps.table() for name, sweeps in budgets.items()}
    gains = {name: _gain(name, runs) for name, runs in tables.items()}
    late_tables = {name: _late_cells(runs) for name, runs in tables.items()}
    late_gains = {
        name: _gain(f"{name}, late cells only", runs) for name, runs in late_tables.items() if runs is not None
    }
    reported: dict[str, float] = {}
    for name, sweeps in budgets.items():
        reported |= {f"{share}, {name}": value for share, value in sweeps.late_share().items()}
    reported |= surviving_share(
        "of the gain at equal epochs that is left at equal η·steps",
        gains["equal epochs"].estimate, gains["equal η·steps"].estimate,
    )  # fmt: skip
    for name, gain in late_gains.items():
        reported |= surviving_share(
            f"of the gain at {name} that is left in late cells only", gains[name].estimate, gain.estimate
        )
    curves = tuple(_curve(name, runs) for name, runs in tables.items())
    sweeps = equal_epochs + equal_time
    return Evidence(
        statistics=tuple(gains.values()),
        panels=(Panel("η/S, 1/examples", "late test accuracy", curves, log_x=True),),
        runs=sum(len(runs) for runs in tables.values()),
        setting=sweeps.setting,
        reported=reported,
        beside=tuple(late_gains.values()),
        provenance=sweeps.provenance,
    )


def _gain(name: str, runs: pd.DataFrame) -> Statistic:
    convention = "slope of accuracy below the optimum that other seeds choose"
    return over_seeds(f"gain per doubling of η/S, {name}", _gain_below_optimum(runs), "fraction", convention, above(0))


def _gain_below_optimum(runs: pd.DataFrame) -> Floats:
    """Return each seed's slope of accuracy on log₂(η/S) over the cells up to the optimum, averaged over rates.

    Each half of the seeds chooses the optimum for the other half.
    """
    gains = []
    for _, part in runs.groupby("learning_rate"):
        table = by_seed(part, "batch_size", "accuracy")
        x, accuracy = -np.log2(table.columns.to_numpy(dtype=np.float64)), table.to_numpy(dtype=np.float64)
        optima = chosen_by_others(accuracy, "halves")
        slope = np.empty(len(accuracy))
        for optimum in np.unique(optima):
            # Batch sizes ascend, so the noise falls, and the cells after the optimum have less noise. A slope needs at
            # least two cells.
            below = slice(min(int(optimum), accuracy.shape[1] - 2), None)
            seeds = optima == optimum
            slope[seeds] = slopes(x[below], accuracy[seeds][:, below])
        gains.append(slope)
    gain: Floats = np.mean(gains, axis=0)
    return gain


def _late_cells(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Return the runs of cells whose test accuracy has converged, or None if a rate has fewer than two such cells."""
    late = runs[runs.late.fillna(False).astype(bool)]
    cells = late.groupby("learning_rate").batch_size.nunique()
    enough = len(cells) == runs.learning_rate.nunique() and bool((cells > 1).all())
    return late if enough else None


def _curve(name: str, runs: pd.DataFrame) -> Curve:
    """Draw accuracy over noise at the largest rate."""
    rate = float(runs.learning_rate.max())
    cells = runs[runs.learning_rate == rate].groupby("batch_size").accuracy.agg(["mean", "sem"]).reset_index()
    return curve_of_means(f"η = 8, {name}", rate / cells.batch_size.to_numpy(), cells)
