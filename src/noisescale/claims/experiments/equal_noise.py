"""Equal noise at different learning rates: accuracies and training curves at the same ε/B."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from noisescale.claims.criterion import above, below
from noisescale.claims.equivalence_tests import equivalent_curves, equivalent_means, mean_squares, worst_level
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.panel import Curve, Floats, Panel
from noisescale.claims.planted import World
from noisescale.claims.statistic import Statistic, over_seeds
from noisescale.claims.studies.equal_noise import (
    BELOW_THE_EDGE,
    CURVATURE_AT_THE_START,
    EQUAL_EPOCHS,
    ONE_RATE_AT_EQUAL_TIME,
    RATE_WITH_BOTH_BUDGETS,
)
from noisescale.claims.study import obtain
from noisescale.claims.sweep_runs import SweepRuns, by_seed, cell_values, slopes, surviving_share
from noisescale.store import Study

# Levels of ε/B that both rates of the criterion share, and levels that at least three rates of the larger grid share.
# The control compares two levels that differ by a factor of three. Its margin is no wider than the margin from a
# fourfold ε/B. The two levels also do not lie on opposite sides of an optimum, where their accuracies could be equal.
_LEVELS = (1 / 6, 0.25, 1 / 3, 0.5)
_LEVELS_OF_LARGER_RATES = (*_LEVELS, 2 / 3)
_CONTROL_LEVELS = (0.5, 1 / 6)
_CHANGE, _CHANGE_OF_LARGER = "change from ε = 1 to 4", "change from ε = 2 to 8 (least squares over the rates)"
# The figure also shows these rates of the larger grid, which has fewer seeds.
_LARGER_RATES_SHOWN = (2.0, 8.0)
# The figure shifts x by this factor from one rate to the next, so that points do not overlap.
_SHIFT = 1.025
_CHANCE = 0.1


def collapse(request: Request) -> Evidence:
    """C1.2: test accuracy late in training is a function of ε/B alone, at rates below 2/λ_max at initialization.

    We also report larger rates, which lie above 2/λ_max at initialization. The verdict does not depend on them.
    """
    deciding, larger, equal_time, start = _obtain_all(request)
    runs, larger_runs = deciding.table(), larger.table()
    one_rate = runs[runs.learning_rate == RATE_WITH_BOTH_BUDGETS]
    control = _control(runs)
    changes, larger_changes = _changes(runs, _LEVELS), _changes(larger_runs, _LEVELS_OF_LARGER_RATES)
    levels = equivalent_means(_CHANGE, _level_names(_LEVELS), changes, control)
    larger_levels = equivalent_means(
        _CHANGE_OF_LARGER, _level_names(_LEVELS_OF_LARGER_RATES), larger_changes, _control(larger_runs)
    )
    control_at_epochs, control_at_time = (
        over_seeds(f"control at equal {budget}, ε = {RATE_WITH_BOTH_BUDGETS:g}", _control(table), "fraction",
                   "accuracy", above(0))
        for budget, table in (("epochs", one_rate), ("ε·steps", equal_time.table()))
    )  # fmt: skip
    sharpness, share_below_two = _sharpness_at_the_start(start)
    shown = pd.concat([runs, larger_runs[larger_runs.learning_rate.isin(_LARGER_RATES_SHOWN)]])
    return Evidence(
        statistics=worst_level(levels),
        panels=(_accuracy_panel(shown),),
        runs=deciding.count,
        setting=f"{deciding.setting}; four levels of ε/B; control: from ε/B = 1/6 to ½",
        reported={
            **deciding.late_share(),
            **_mean_changes(_CHANGE, _LEVELS, changes),
            **_mean_changes(_CHANGE_OF_LARGER, _LEVELS_OF_LARGER_RATES, larger_changes),
            **surviving_share(
                "of the control that is left at equal ε·steps", control_at_epochs.estimate, control_at_time.estimate
            ),
            **share_below_two,
        },
        beside=(
            *(contrast for contrast, _ in levels),
            *equivalent_curves(f"{_CHANGE}, all levels", changes, control[:, None]),
            *(contrast for contrast, _ in larger_levels),
            *sharpness,
            control_at_epochs,
            control_at_time,
        ),
        provenance=(deciding + larger + equal_time + start).provenance,
    )


def curves_coincide(request: Request) -> Evidence:
    """C4.1: training curves with equal η/S coincide, at rates below 2/λ_max at initialization."""
    deciding, larger, equal_time, start = _obtain_all(request)
    curves = deciding.training_curves()
    control = _control_of_curves(curves, RATE_WITH_BOTH_BUDGETS)
    differences = [_difference(curves, (1.0, level), (4.0, level)) for level in _LEVELS]
    pairs = [
        equivalent_curves(f"curves of η = 1 and 4 at η/S = {level:.2g}", difference, control)
        for level, difference in zip(_LEVELS, differences, strict=True)
    ]
    distance = mean_squares(_control_of_curves(equal_time.training_curves(), RATE_WITH_BOTH_BUDGETS))
    control_at_time = over_seeds(
        f"control at equal η·steps, η = {RATE_WITH_BOTH_BUDGETS:g}: mean square", distance, "1",
        "unbiased mean square of the differences in accuracy", above(0),
    )  # fmt: skip
    sharpness, share_below_two = _sharpness_at_the_start(start)
    survives = surviving_share(
        "of the control's distance that is left at equal η·steps", pairs[0][1].estimate, control_at_time.estimate, 0.5
    )
    return Evidence(
        statistics=worst_level(pairs),
        panels=(_curves_panel(curves),),
        runs=deciding.count,
        setting=f"{deciding.setting}; test accuracy at every evaluation, at four η/S; control: η = 4, η/S = 1/6 and ½",
        reported=deciding.late_share() | survives | share_below_two,
        beside=(
            *(contrast for contrast, _ in pairs),
            *equivalent_curves("curves, all η/S", np.hstack(differences), control),
            *_curves_of_larger_rates(larger),
            *sharpness,
            control_at_time,
        ),
        provenance=(deciding + larger + equal_time + start).provenance,
    )


def _obtain_all(request: Request) -> tuple[SweepRuns, SweepRuns, SweepRuns, SweepRuns]:
    """Obtain the runs at the rates of the criterion, at larger rates, at equal ε·steps, and at initialization."""
    # In the null experiment, a fourfold rate at equal ε/B moves the accuracy by a little more than a quarter of the
    # control.
    world = World(rate_effect=0.003) if request.null else World()
    deciding, larger, equal_time = (
        obtain(request, study, world) for study in (BELOW_THE_EDGE, EQUAL_EPOCHS, ONE_RATE_AT_EQUAL_TIME)
    )
    return deciding, larger, equal_time, obtain(request, CURVATURE_AT_THE_START)


def _at_level(runs: pd.DataFrame, level: float) -> tuple[Floats, Floats]:
    """Return the rates [M] that have a cell at this level of ε/B, and the accuracies [M, S] of these cells."""
    cells = runs[np.isclose(runs.learning_rate / runs.batch_size, level, rtol=0.01)]
    accuracies = np.array([cell_values(cell) for _, cell in cells.groupby("learning_rate")])
    return np.sort(cells.learning_rate.unique()), accuracies


def _changes(runs: pd.DataFrame, levels: Sequence[float]) -> Floats:
    """Return the change of accuracy [S, M] for a fourfold ε at each level of ε/B, by least squares over the rates."""
    at_levels = [_at_level(runs, level) for level in levels]
    return np.stack([2 * slopes(np.log2(rates), accuracies.T) for rates, accuracies in at_levels], 1)


def _control(runs: pd.DataFrame) -> Floats:
    """Return the change of accuracy [S] between the two levels of the control, averaged over the rates."""
    high, low = (_at_level(runs, level)[1].mean(0) for level in _CONTROL_LEVELS)
    change: Floats = high - low
    return change


def _level_names(levels: Sequence[float]) -> list[str]:
    return [f"ε/B = {level:.2g}" for level in levels]


def _mean_changes(name: str, levels: Sequence[float], changes: Floats) -> dict[str, float]:
    names = _level_names(levels)
    return {f"{name} at {level}": float(change.mean()) for level, change in zip(names, changes.T, strict=True)}


def _sharpness_at_the_start(start: SweepRuns) -> tuple[list[Statistic], dict[str, float]]:
    """Compute ε·λ_max at initialization for rates 4 and 8, and the share of seeds with ε·λ_max below 2 at rate 4.

    Planted runs have no curvature, so both results are empty.
    """
    if not isinstance(start.study, Study):
        return [], {}
    curvature = start.study.curves().lambda_max.dropna().to_numpy(dtype=np.float64)
    products = [
        over_seeds(f"ε·λ_max at the start, ε = {rate:g}", rate * curvature, "1", "all training examples", criterion(2))
        for rate, criterion in ((4.0, below), (8.0, above))
    ]
    return products, {"share of seeds with ε·λ_max below 2 at the start, ε = 4": float((4 * curvature < 2).mean())}


def _control_of_curves(curves: pd.DataFrame, rate: float) -> Floats:
    """Return the difference [S, T] between the curves at the two levels of the control."""
    return _difference(curves, (rate, _CONTROL_LEVELS[0]), (rate, _CONTROL_LEVELS[1]))


def _curves_of_larger_rates(larger: SweepRuns) -> list[Statistic]:
    """Test the distance between the curves of η = 2 and 8. The larger rate lies above 2/λ_max at initialization."""
    curves = larger.training_curves()
    control = _control_of_curves(curves, 2.0)
    return [
        equivalent_curves(f"curves of η = 2 and 8 at η/S = {level:.2g}",
                          _difference(curves, (2.0, level), (8.0, level)), control)[0]
        for level in _LEVELS
    ]  # fmt: skip


def _difference(curves: pd.DataFrame, cell: tuple[float, float], other: tuple[float, float]) -> Floats:
    """Return the difference [S, T] between two curves. Each curve is given by its (η, η/S)."""
    return _trajectory(curves, cell[0], cell[0] / cell[1]) - _trajectory(curves, other[0], other[0] / other[1])


def _trajectory(curves: pd.DataFrame, rate: float, batch: float) -> Floats:
    """Return the test accuracy [S, T] of a cell. A diverged run has the accuracy of chance."""
    table = by_seed(_cell(curves, rate, batch), "evaluation", "test_accuracy")
    trajectory: Floats = table.fillna(_CHANCE).to_numpy(dtype=np.float64)
    return trajectory


def _cell(curves: pd.DataFrame, rate: float, batch: float) -> pd.DataFrame:
    return curves[(curves.learning_rate == rate) & (curves.batch_size == round(batch))]


def _accuracy_panel(runs: pd.DataFrame) -> Panel:
    cells = runs.groupby(["learning_rate", "batch_size"]).accuracy.agg(["mean", "sem"]).reset_index()
    curves = []
    for index, (rate, cells_at_rate) in enumerate(cells.groupby("learning_rate")):
        x = _SHIFT**index * (cells_at_rate.learning_rate / cells_at_rate.batch_size).to_numpy()
        curves.append(curve_of_means(f"ε = {rate:g}", x, cells_at_rate))
    label = "ε/B, 1/examples (points at one ε/B are drawn side by side)"
    return Panel(label, "late test accuracy", tuple(curves), log_x=True)


def _curves_panel(curves: pd.DataFrame) -> Panel:
    means = curves.groupby(["learning_rate", "batch_size", "epoch"]).test_accuracy.agg(["mean", "sem"]).reset_index()
    shown = []
    for level in _CONTROL_LEVELS:
        for rate in (1.0, 4.0):
            cell = _cell(means, rate, rate / level)
            shown.append(curve_of_means(f"η = {rate:g}, S = {rate / level:g}", cell.epoch.to_numpy(), cell))
    return Panel("epochs", "test accuracy", tuple(shown))


def curve_of_means(label: str, x: Floats, cells: pd.DataFrame) -> Curve:
    """Draw means with ± 2 standard errors.

    Args:
        label: Text in the legend, to which the meaning of the bars is added.
        x: Horizontal positions, shape [M].
        cells: One row per position, with the columns `mean` and `sem`.
    """
    mean, two_errors = cells["mean"].to_numpy(dtype=np.float64), 2 * cells["sem"].to_numpy(dtype=np.float64)
    return Curve(f"{label}, ± 2 standard errors", x, mean, mean - two_errors, mean + two_errors)
