"""The effect of noise at an equal number of steps for all batch sizes, or with more steps for large batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from noisescale.claims.criterion import Criterion, above, below, different_from
from noisescale.claims.evidence import Evidence, NotRun, Request
from noisescale.claims.experiments.paired_choice import ChosenRuns, choose_in_pairs, choose_within_ladders
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_errors
from noisescale.claims.planted import World
from noisescale.claims.statistic import Statistic, over_pairs, pair_means
from noisescale.claims.studies.equal_steps import (
    EQUAL_STEPS,
    EQUAL_STEPS_WITH_GHOST_BATCHES,
    GHOST_BATCHES,
    MORE_STEPS,
    WHOLE_BATCHES,
)
from noisescale.claims.study import ClaimStudy, obtain
from noisescale.claims.sweep_runs import slopes
from noisescale.laws import MARGIN

# A line through three batch sizes gives the middle batch size no weight.
_FEWEST_BATCHES = 4
_BY_ACCURACY, _BY_LOSS = "at the rate best for test accuracy", "at the rate best for the training loss"
_AXIS = "batch size, examples"


def with_ghost_batches(request: Request) -> Evidence:
    """C3.3: at equal steps, test accuracy falls as the batch grows, although the training loss falls too."""
    return _trends_over_batches(request, EQUAL_STEPS_WITH_GHOST_BATCHES, 1.5)


def without_batch_norm(request: Request) -> Evidence:
    """C3.8: the effect of C3.3 also exists without batch norm."""
    return _trends_over_batches(request, EQUAL_STEPS, 24.0)


def gap_stays(request: Request) -> Evidence:
    """C3.4: the gap in test accuracy remains when large batches train for many times the steps."""
    short, long = obtain(request, EQUAL_STEPS, _world(request, 24.0)), obtain(request, MORE_STEPS, _world(request, 1.5))
    short_runs, long_runs = short.table(), long.table()
    largest = long_runs.batch_size.iloc[0]
    # A single choice covers the rates of both budgets. Choosing a rate and then a budget would make the interval too
    # short.
    either_budget = pd.concat([short_runs[short_runs.batch_size == largest], long_runs])
    chosen, chosen_long = choose_within_ladders(short_runs), choose_within_ladders(long_runs)
    smallest = min(chosen)
    gap = chosen[smallest].accuracy - choose_in_pairs(either_budget, ["steps", "learning_rate"]).accuracy
    curves = (_curve("equal steps", chosen), _curve("four times the steps", chosen_long))
    sweeps = short + long
    return Evidence(
        statistics=(
            over_pairs("smallest batch at equal steps − largest batch at its better budget", gap, "fraction",
                       "accuracy, each at its best rate", above(0)),
        ),
        panels=(Panel(_AXIS, "test accuracy at the best rate", curves, log_x=True),),
        runs=len(short_runs) + len(long_runs),
        setting=f"{sweeps.setting}; B = {smallest:g} with 6,000 steps, B = {largest:g} with 6,000 and 24,000",
        reported=sweeps.late_share()
        | _failures(short_runs, "equal steps, ")
        | _failures(long_runs, "four times the steps, "),
        provenance=sweeps.provenance,
    )  # fmt: skip


def ghosts_matter(request: Request) -> Evidence:
    """C3.7: batch norm over whole batches, instead of ghost batches, confounds the trend of accuracy over B."""
    # In the null experiment, ghost batches and whole batches have the same best noise.
    ghost = obtain(request, GHOST_BATCHES)
    whole = obtain(request, WHOLE_BATCHES, World() if request.null else World(rate_effect=-0.01))
    ghost_runs, whole_runs = ghost.table(), whole.table()
    chosen_ghost, chosen_whole = choose_within_ladders(ghost_runs), choose_within_ladders(whole_runs)
    batches = sorted(chosen_ghost.keys() & chosen_whole.keys())
    if len(batches) < _FEWEST_BATCHES:
        raise NotRun(f"fewer than {_FEWEST_BATCHES} batches have their best rate within both ladders")
    chosen_ghost, chosen_whole = ({batch: part[batch] for batch in batches} for part in (chosen_ghost, chosen_whole))
    gain = _metric(chosen_whole, "accuracy") - _metric(chosen_ghost, "accuracy")
    curves = (_curve("ghost batches of 16", chosen_ghost), _curve("whole batches", chosen_whole))
    criterion, sweeps = different_from(0), ghost + whole
    return Evidence(
        statistics=(
            over_pairs("difference between the trends", slopes(_log2(batches), gain), "fraction",
                       "change of accuracy per doubling of B, whole − ghost", criterion),
        ),
        panels=(Panel(_AXIS, "test accuracy at the best rate", curves, log_x=True),),
        runs=len(ghost_runs) + len(whole_runs),
        setting=sweeps.setting,
        reported=sweeps.late_share()
        | _failures(ghost_runs, "ghost batches, ")
        | _failures(whole_runs, "whole batches, "),
        beside=_changes("accuracy, whole − ghost", batches, gain, "fraction", "each at its best rate", criterion),
        provenance=sweeps.provenance,
    )  # fmt: skip


def _trends_over_batches(request: Request, study: ClaimStudy, edge: float) -> Evidence:
    """Compute the trends of accuracy and of training loss over batches, from the same runs."""
    sweeps = obtain(request, study, _world(request, edge))
    runs = sweeps.table()
    chosen = choose_within_ladders(runs)
    batches = sorted(chosen)
    if len(batches) < _FEWEST_BATCHES:
        raise NotRun(f"fewer than {_FEWEST_BATCHES} batches have their best rate within the ladder")

    def trend(quantity: str, metric: str, unit: str, rate: str) -> Statistic:
        name = f"change of {quantity} per doubling of B, {rate}"
        values = slopes(_log2(batches), _metric(chosen, metric))
        return over_pairs(name, values, unit, "least squares on log₂ B", below(0))

    accuracy_curves = (_curve(_BY_ACCURACY, chosen), _curve(_BY_LOSS, chosen, "accuracy_by_loss"))
    loss_curves = (_curve(_BY_ACCURACY, chosen, "loss"), _curve(_BY_LOSS, chosen, "loss_by_loss"))
    at_end = sum(runs_at_batch.at_end_by_loss for runs_at_batch in chosen.values())
    return Evidence(
        statistics=(
            trend("test accuracy", "accuracy", "fraction", _BY_ACCURACY),
            trend("training loss", "loss", "nats", _BY_ACCURACY),
        ),
        panels=(
            Panel(_AXIS, "test accuracy", accuracy_curves, log_x=True),
            Panel(_AXIS, "training loss, nats", loss_curves, log_x=True),
        ),
        runs=len(runs),
        setting=sweeps.setting,
        reported=sweeps.late_share()
        | _failures(runs)
        | {"batches whose rate best for the training loss is an end of the ladder": float(at_end)},
        beside=(
            trend("test accuracy", "accuracy_by_loss", "fraction", _BY_LOSS),
            trend("training loss", "loss_by_loss", "nats", _BY_LOSS),
            *_changes("test accuracy", batches, _metric(chosen, "accuracy"), "fraction", _BY_ACCURACY, below(MARGIN)),
            *_changes("training loss", batches, _metric(chosen, "loss"), "nats", _BY_ACCURACY, below(0)),
        ),
        provenance=sweeps.provenance,
    )


def _changes(
    quantity: str, batches: list[int], values: Floats, unit: str, convention: str, criterion: Criterion
) -> tuple[Statistic, ...]:
    """Compute the changes of values [S, M] from each batch to the next.

    A line through all batch sizes gives little weight to the changes in the middle.
    """
    return tuple(
        over_pairs(f"{quantity}, B = {larger} minus B = {smaller}", values[:, index + 1] - values[:, index], unit,
                   convention, criterion)
        for index, (smaller, larger) in enumerate(itertools.pairwise(batches))
    )  # fmt: skip


def _failures(runs: pd.DataFrame, label: str = "") -> dict[str, float]:
    """Count the runs that diverged or collapsed, in total and in each cell that has such runs."""
    cells = runs[runs.diverged_or_collapsed].groupby(["batch_size", "learning_rate"]).size().reset_index(name="count")
    by_cell = {
        f"{label}failed runs at B = {cell.batch_size:g}, ε = {cell.learning_rate:g}": float(cell["count"])
        for _, cell in cells.iterrows()
    }
    return {f"{label}failed runs of {len(runs)}": float(runs.diverged_or_collapsed.sum())} | by_cell


def _world(request: Request, edge: float) -> World:
    """Return the world of the planted runs, in which large batches diverge before they reach the best noise.

    In the null experiment, accuracy depends only on the rate, the best rate lies within every ladder, and no run fails.
    """
    if request.null:
        return World(by="rate", best=math.log(250), edge=1e6)
    return World(edge=edge, loss_below=6.0)


def _log2(batches: list[int]) -> Floats:
    return np.log2(np.array(batches, dtype=np.float64))


def _metric(chosen: dict[int, ChosenRuns], metric: str) -> Floats:
    """Return a metric [S, M] at the chosen rates, with batch sizes in ascending order."""
    return np.stack([getattr(chosen[batch], metric) for batch in sorted(chosen)], 1)


def _curve(label: str, chosen: dict[int, ChosenRuns], metric: str = "accuracy") -> Curve:
    pairs = pair_means(_metric(chosen, metric))
    return mean_with_errors(label, np.array(sorted(chosen), dtype=np.float64), pairs.T)
