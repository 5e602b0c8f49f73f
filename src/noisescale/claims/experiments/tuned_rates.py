"""The best learning rate at each batch size, momentum and epoch budget, with a schedule that ends at a small rate."""

from __future__ import annotations

import math

import numpy as np

from noisescale.claims.criterion import above, below, within
from noisescale.claims.equivalence_tests import equivalence
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.experiments.best_rates import (
    best_rates,
    break_of_proportionality,
    training_times,
    where_all_have_a_peak,
)
from noisescale.claims.panel import Curve, Panel, mean_with_errors
from noisescale.claims.planted import World
from noisescale.claims.statistic import over_seeds
from noisescale.claims.studies.tuned_rates import TUNED_AT_EQUAL_EPOCHS, TUNED_OVER_BUDGETS, TUNED_WITH_MOMENTUM
from noisescale.claims.study import obtain
from noisescale.claims.sweep_runs import slopes

_SAME_RATE = within(0, math.log(math.sqrt(2)))
_CONSTANT = within(0, 0.25)
_STABLE = 1e6


def saturation(request: Request) -> Evidence:
    """C3.1: at equal epochs, the best rate grows with B and then saturates; accuracy is constant and then falls."""
    # In the null experiment, every rate is stable.
    sweeps = obtain(request, TUNED_AT_EQUAL_EPOCHS, World(edge=_STABLE if request.null else 40.0))
    runs = sweeps.table()
    (rates,) = where_all_have_a_peak(best_rates(runs, "batch_size"))
    batches, x, means = rates.keys, np.log(rates.keys), rates.log_rates.mean(0)
    break_index = break_of_proportionality(x, means)
    lower, upper = slice(None, break_index + 1), slice(break_index, None)
    drop = rates.heights[:, -1] - rates.heights[:, lower].mean(1)
    curves = (
        mean_with_errors("best rate", batches, rates.log_rates.T, logs=True),
        Curve("ε ∝ B", batches, np.exp(means[break_index] + x - x[break_index]), kind="theory"),
    )
    flat = equivalence(
        "accuracy from the smallest batch to the break", rates.heights[:, break_index] - rates.heights[:, 0], drop
    )
    return Evidence(
        statistics=(
            over_seeds(f"slope of log ε_opt on log B up to B = {batches[break_index]:g}",
                       slopes(x[lower], rates.log_rates[:, lower]), "1", "least squares", within(1, 0.25)),
            over_seeds(f"slope of log ε_opt on log B beyond B = {batches[break_index]:g}",
                       slopes(x[upper], rates.log_rates[:, upper]), "1", "least squares", below(0.5)),
            over_seeds("accuracy at the largest batch minus accuracy below the break", drop, "fraction",
                       "each at its best rate", below(0)),
            *flat,
        ),
        panels=(Panel("batch size, examples", "best learning rate ε", curves, log_x=True, log_y=True),),
        runs=len(runs),
        setting=f"{sweeps.setting}; best rates at B = {', '.join(f'{batch:g}' for batch in batches)}",
        reported=sweeps.late_share() | training_times(runs, rates),
        provenance=sweeps.provenance,
    )  # fmt: skip


def momentum_helps_late(request: Request) -> Evidence:
    """C3.2: momentum does not improve accuracy at small batches, but it does at large batches."""
    world = World(edge=_STABLE if request.null else 40.0)
    sweeps, with_sweeps = obtain(request, TUNED_AT_EQUAL_EPOCHS, world), obtain(request, TUNED_WITH_MOMENTUM, world)
    runs, with_runs = sweeps.table(), with_sweeps.table()
    without, with_momentum = where_all_have_a_peak(best_rates(runs, "batch_size"), best_rates(with_runs, "batch_size"))
    batches = without.keys
    gain = with_momentum.heights - without.heights
    small, large = gain[:, :2].mean(1), gain[:, -1]
    ratio = (with_momentum.log_rates - without.log_rates)[:, :2].mean(1)
    curves = (
        mean_with_errors("each at its best rate", batches, gain.T),
        Curve("no difference", batches[[0, -1]], np.zeros(2), kind="reference"),
    )
    both = sweeps + with_sweeps
    return Evidence(
        statistics=(
            *equivalence(f"B = {batches[0]:g} and {batches[1]:g}", small, large),
            over_seeds("log ratio of the best ε/(1 − m) at these batches", ratio, "1", "natural logarithm", _SAME_RATE),
            over_seeds(f"gain at B = {batches[-1]:g}", large, "fraction", "accuracy, each at its best rate", above(0)),
        ),
        panels=(
            Panel("batch size, examples", "accuracy with momentum 0.9 minus accuracy without", curves, log_x=True),
        ),
        runs=len(runs) + len(with_runs),
        setting=both.setting,
        reported=both.late_share()
        | training_times(runs, without, ", m = 0")
        | training_times(with_runs, with_momentum, ", m = 0.9"),
        provenance=both.provenance,
    )  # fmt: skip


def rates_over_budgets(request: Request) -> Evidence:
    """C3.5: with a growing epoch budget, the rate best for accuracy falls more slowly than the rate best for loss."""
    sweeps = obtain(request, TUNED_OVER_BUDGETS, World(loss_below_growth=0.0 if request.null else 0.8))
    runs = sweeps.table()
    by_accuracy, by_loss = where_all_have_a_peak(best_rates(runs, "budget"), best_rates(runs, "budget", "train_loss"))
    budgets = by_accuracy.keys
    x = np.log(budgets)
    accuracy_slopes, loss_slopes = slopes(x, by_accuracy.log_rates), slopes(x, by_loss.log_rates)
    curves = tuple(
        mean_with_errors(f"by {name}", budgets, rates.log_rates.T, logs=True)
        for name, rates in (("test accuracy", by_accuracy), ("training loss", by_loss))
    )
    convention = "slope of log ε_opt on log epochs"
    return Evidence(
        statistics=(
            over_seeds("slope by accuracy − slope by training loss", accuracy_slopes - loss_slopes, "1", convention,
                       above(0)),
            over_seeds("slope by training loss", loss_slopes, "1", convention, below(0)),
        ),
        panels=(Panel("budget, epochs", "best learning rate ε", curves, log_x=True, log_y=True),),
        runs=len(runs),
        setting=f"{sweeps.setting}; {', '.join(f'{budget:g}' for budget in budgets)} epochs",
        reported=sweeps.late_share(),
        beside=(over_seeds("slope by accuracy", accuracy_slopes, "1", convention, _CONSTANT),),
        provenance=sweeps.provenance,
    )  # fmt: skip


def best_temperature(request: Request) -> Evidence:
    """C3.6: the best ε/((1 − m)B) is the same across batches, budgets and momenta."""
    world = World(edge=40.0, by="rate" if request.null else "noise")
    sweeps = [
        obtain(request, study, world) for study in (TUNED_AT_EQUAL_EPOCHS, TUNED_WITH_MOMENTUM, TUNED_OVER_BUDGETS)
    ]
    tables = [part.table() for part in sweeps]
    without, with_momentum = where_all_have_a_peak(*(best_rates(table, "batch_size") for table in tables[:2]))
    (over_budgets,) = where_all_have_a_peak(best_rates(tables[2], "budget"))
    batches = without.keys
    x = np.log(batches)
    lower = slice(None, break_of_proportionality(x, without.log_rates.mean(0)) + 1)
    log_temperatures = {"m = 0": without.log_rates - x, "m = 0.9": with_momentum.log_rates - x}
    constant = math.exp(float(log_temperatures["m = 0"][:, lower].mean()))
    curves = (
        *(mean_with_errors(name, batches, values.T, logs=True) for name, values in log_temperatures.items()),
        Curve("constant T, the mean of m = 0 up to the break", batches, np.full(len(batches), constant), kind="theory"),
    )
    seeds = min(len(without.log_rates), len(with_momentum.log_rates))
    difference = (with_momentum.log_rates[:seeds] - without.log_rates[:seeds])[:, lower].mean(1)
    convention = "slope of the log best temperature"
    all_sweeps = sweeps[0] + sweeps[1] + sweeps[2]
    return Evidence(
        statistics=(
            over_seeds(f"slope on log B up to B = {batches[lower][-1]:g}",
                       slopes(x[lower], log_temperatures["m = 0"][:, lower]), "1", convention, _CONSTANT),
            over_seeds("log ratio of momentum 0.9 to 0", difference, "1", "mean over these batches", _SAME_RATE),
            over_seeds("slope on log epochs", slopes(np.log(over_budgets.keys), over_budgets.log_rates), "1",
                       f"{convention}, B = 16", _CONSTANT),
        ),
        panels=(
            Panel("batch size, examples", "best temperature ε/((1 − m)B), 1/examples", curves, log_x=True, log_y=True),
        ),
        runs=sum(len(table) for table in tables),
        setting=all_sweeps.setting,
        reported=all_sweeps.late_share(),
        provenance=all_sweeps.provenance,
    )  # fmt: skip
