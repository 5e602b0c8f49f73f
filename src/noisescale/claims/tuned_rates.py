"""The best learning rate at each batch size, momentum and budget, where the rate falls at the end of training."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisescale.claims.claim import Curve, Evidence, NotRun, Panel, Request
from noisescale.claims.criterion import above, below, over_seeds, same, within
from noisescale.claims.ladders import Floats, share_of_late, slopes, table
from noisescale.claims.planted import World
from noisescale.claims.studies import obtain, tuned_at_equal_epochs, tuned_over_budgets, tuned_with_momentum
from noisescale.laws.cubic_fits import MINIMUM_CELLS, local_cubic

_NETWORK = "MLP, one hidden layer of width 64, NTK, no batch norm, MNIST-1D, halving schedule"
_FACTOR = math.log(math.sqrt(2))  # margin for the place of an optimum


def saturation(request: Request) -> Evidence:
    """C3.1: at equal epochs the best rate grows with B, then saturates, and accuracy is flat, then falls."""
    # Taken out: every rate is stable.
    (study,) = obtain(request, tuned_at_equal_epochs, World(edge=1e6) if request.null else World(edge=40.0))
    runs = table([study])
    found = _Tuned(runs, "batch_size")
    found.keep(~found.censored)
    batches, rates = found.keys, found.places
    x = np.log(batches)
    split = _break(x, rates.mean(0))
    lower, upper = slice(None, split + 1), slice(split, None)
    drop = found.heights[:, -1] - found.heights[:, lower].mean(1)
    mean, half = rates.mean(0), 2 * _standard_error(rates)
    panel = Panel(
        "batch size, examples", "best learning rate ε",
        (
            Curve("± 2 standard errors", batches, np.exp(mean), np.exp(mean - half), np.exp(mean + half)),
            Curve("ε ∝ B", batches, np.exp(mean[split] + x - x[split]), kind="theory"),
        ),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds(f"slope of log ε_opt on log B up to B = {batches[split]:g}", slopes(x[lower], rates[:, lower]),
                       "1", "least squares", within(1, 0.25)),
            over_seeds("slope beyond", slopes(x[upper], rates[:, upper]), "1", "least squares", below(0.5)),
            over_seeds("accuracy at the largest batch, less that below the break", drop, "fraction",
                       "each at its best rate", below(0)),
            *same("accuracy from the smallest batch to the break", found.heights[:, split] - found.heights[:, 0], drop),
        ),
        (panel,), found.runs, f"{_NETWORK}, 30 epochs, B = {', '.join(f'{b:g}' for b in batches)}",
        share_of_late(study) | _times(runs, found),
    )  # fmt: skip


def momentum_helps_late(request: Request) -> Evidence:
    """C3.2: momentum does not help at small batches and does at large ones."""
    world = World(edge=1e6) if request.null else World(edge=40.0)
    studies = (obtain(request, tuned_at_equal_epochs, world), obtain(request, tuned_with_momentum, world))
    tables = [table(own) for own in studies]
    without, with_it = (_Tuned(runs, "batch_size") for runs in tables)
    open_ended = without.censored | with_it.censored
    for own in (without, with_it):
        own.keep(~open_ended)
    batches = without.keys
    gain = with_it.heights - without.heights
    small, large = gain[:, :2].mean(1), gain[:, -1]
    ratio = (with_it.places - without.places)[:, :2].mean(1)
    mean, half = gain.mean(0), 2 * _standard_error(gain)
    panel = Panel(
        "batch size, examples", "accuracy with momentum 0.9 less that without",
        (Curve("each at its best rate, ± 2 standard errors", batches, mean, mean - half, mean + half),
         Curve("no difference", batches[[0, -1]], np.zeros(2), kind="reference")),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        (
            *same(f"B = {batches[0]:g} and {batches[1]:g}", small, large),
            over_seeds("log ratio of the best ε/(1 − m) there", ratio, "1", "natural logarithm", within(0, _FACTOR)),
            over_seeds(f"gain at B = {batches[-1]:g}", large, "fraction", "accuracy, each at its best rate", above(0)),
        ),
        (panel,), without.runs + with_it.runs, f"{_NETWORK}, 30 epochs, momentum 0 and 0.9",
        share_of_late(*studies[0], *studies[1]) | _times(tables[0], without, ", m = 0")
        | _times(tables[1], with_it, ", m = 0.9"),
    )  # fmt: skip


def rates_over_budgets(request: Request) -> Evidence:
    """C3.5: the rate best for test accuracy falls slower with the epoch budget than that best for the training loss."""
    studies = obtain(request, tuned_over_budgets, World(loss_wants_less=0.0 if request.null else 0.8))
    runs = table(studies)
    by_accuracy, by_loss = _Tuned(runs, "budget"), _Tuned(runs, "budget", "train_loss")
    open_ended = by_accuracy.censored | by_loss.censored
    for own in (by_accuracy, by_loss):
        own.keep(~open_ended)
    budgets = by_accuracy.keys
    x = np.log(budgets)
    by_metric = {name: slopes(x, own.places) for name, own in (("accuracy", by_accuracy), ("training loss", by_loss))}
    panel = Panel(
        "budget, epochs", "best learning rate ε",
        tuple(
            Curve(f"by {name}, ± 2 standard errors", budgets, *(np.exp(own.places.mean(0) + sign * 2 * half)
                                                              for sign in (0, -1, 1)))
            for name, own in (("test accuracy", by_accuracy), ("training loss", by_loss))
            for half in (_standard_error(own.places),)
        ),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds("slope by accuracy − slope by training loss",
                       by_metric["accuracy"] - by_metric["training loss"], "1", "of log ε_opt on log epochs", above(0)),
            over_seeds("slope by training loss", by_metric["training loss"], "1", "of log ε_opt on log epochs",
                       below(0)),
        ),
        (panel,), by_accuracy.runs, f"{_NETWORK}, B = 16, {', '.join(f'{b:g}' for b in budgets)} epochs",
        share_of_late(*studies), beside=(
            over_seeds("slope by accuracy", by_metric["accuracy"], "1", "of log ε_opt on log epochs", within(0, 0.25)),
        ),
    )  # fmt: skip


def best_temperature(request: Request) -> Evidence:
    """C3.6: the best ε/((1 − m)B) is the same across batches, budgets and momenta."""
    world = World(edge=40.0, by="rate" if request.null else "noise")
    studies = [obtain(request, build, world)
               for build in (tuned_at_equal_epochs, tuned_with_momentum, tuned_over_budgets)]  # fmt: skip
    without, with_it, budgets = (
        _Tuned(table(own), axis) for own, axis in zip(studies, ("batch_size", "batch_size", "budget"), strict=True)
    )
    open_ended = without.censored | with_it.censored
    for own in (without, with_it):
        own.keep(~open_ended)
    budgets.keep(~budgets.censored)
    batches = without.keys
    x = np.log(batches)
    lower = slice(None, _break(x, without.places.mean(0)) + 1)
    temperatures = {"m = 0": without.places - x, "m = 0.9": with_it.places - x}
    constant = math.exp(float(temperatures["m = 0"][:, lower].mean()))
    panel = Panel(
        "batch size, examples", "best temperature ε/((1 − m)B), 1/examples",
        tuple(
            Curve(f"{name}, ± 2 standard errors", batches, *(np.exp(own.mean(0) + sign * 2 * _standard_error(own))
                                                           for sign in (0, -1, 1)))
            for name, own in temperatures.items()
        ) + (Curve("T constant, of m = 0 up to the break", batches, np.full(len(batches), constant), kind="theory"),),
        log_x=True, log_y=True,
    )  # fmt: skip
    seeds = min(len(own.places) for own in (without, with_it))
    difference = (with_it.places[:seeds] - without.places[:seeds])[:, lower].mean(1)
    return Evidence(
        (
            over_seeds(f"slope on log B up to B = {batches[lower][-1]:g}",
                       slopes(x[lower], temperatures["m = 0"][:, lower]), "1", "of the log of the best temperature",
                       within(0, 0.25)),
            over_seeds("log ratio of momentum 0.9 to 0", difference, "1", "mean over these batches",
                       within(0, _FACTOR)),
            over_seeds("slope on log epochs", slopes(np.log(budgets.keys), budgets.places), "1",
                       "of the log of the best temperature, B = 16", within(0, 0.25)),
        ),
        (panel,), without.runs + with_it.runs + budgets.runs, f"{_NETWORK}, 30 epochs, and 10 to 80 at B = 16",
        share_of_late(*(study for own in studies for study in own)),
    )  # fmt: skip


class _Tuned:
    """Each seed's own best effective rate in every ladder of some axis.

    Arguments:
        runs: as `table` gives them. axes: column that tells the ladders apart. metric: accuracy, or a loss.

    `places` [S, C] are of log ε/(1 − m); `heights` [S, C] are metrics at the best rate, which each half of the seeds
    chooses for the other; `censored` [C] says where the best rate is an end of the ladder, beyond which nothing
    is known to fail.
    """

    def __init__(self, runs: pd.DataFrame, axis: str, metric: str = "accuracy") -> None:
        self.runs, maximize = len(runs), metric == "accuracy"
        rates = np.log(runs.learning_rate / (1 - runs.momentum)).round(6)
        keys, places, heights, censored = [], [], [], []
        for key, part in runs.assign(rate=rates).groupby(axis):
            values = part.pivot(index="seed", columns="rate", values=metric).sort_index()
            # Where training fails the curve falls off a cliff that no cubic follows: the cells before it decide.
            sound = ~np.logical_or.accumulate(part.groupby("rate").failed.any().to_numpy())
            if sound.sum() < MINIMUM_CELLS:
                raise NotRun(f"fewer than {MINIMUM_CELLS} rates at which all seeds train, at {axis} {key}")
            x, y = values.columns.to_numpy(dtype=np.float64)[sound], values.to_numpy(dtype=np.float64)[:, sound]
            keys.append(float(str(key)))
            y = y if maximize else -y
            own = _own_places(x, y)
            places.append(own)
            heights.append(_cross_fitted(y))
            middle = float(np.median(own))
            censored.append(middle == x[0] or (bool(sound.all()) and middle == x[-1]))
        self.keys, self.censored = np.array(keys), np.array(censored)
        self.places, self.heights = np.stack(places, 1), np.stack(heights, 1)

    def keep(self, cells: NDArray[np.bool_]) -> None:
        """Only some of the cells [C]."""
        self.keys, self.censored = self.keys[cells], self.censored[cells]
        self.places, self.heights = self.places[:, cells], self.heights[:, cells]


def _times(runs: pd.DataFrame, found: _Tuned, of: str = "") -> dict[str, float]:
    """Training time ε·steps/(1 − m) at the best peak rate of each batch: where it is equal, only the noise differs."""
    steps = runs.groupby("batch_size").steps.first()
    return {
        f"ε·steps/(1 − m) at the best rate, B = {batch:g}{of}": float(np.exp(place)) * float(steps[batch])
        for batch, place in zip(found.keys, found.places.mean(0), strict=True)
    }


def _own_places(x: Floats, y: Floats) -> Floats:
    """Top [S] of each seed's own smoothed curve, y [S, C]; it may be an end, where training fails beyond.

    Not the top of the mean curve: its jackknife is too short (a planted null was supported in 7 of 40 draws), and what
    is reported are changes from cell to cell, in which a bias that all cells share has no part.
    """
    maps = local_cubic(x)
    found: Floats = maps.grid[(y @ maps.height.T).argmax(1)]
    return found


def _cross_fitted(y: Floats) -> Floats:
    half = len(y) // 2
    first, second = y[half:].mean(0).argmax(), y[:half].mean(0).argmax()
    return np.concatenate([y[:half, first], y[half:, second]])


def _break(x: Floats, y: Floats) -> int:
    """Index of the place at which a line of slope 1 that then stays flat fits best; the last where it never does."""

    def misfit(place: int) -> float:
        shape = np.minimum(x, x[place])
        return float(np.var(y - shape))

    if len(x) < 3:
        raise NotRun("fewer than three batches whose best rate lies within its ladder")
    return min(range(1, len(x)), key=misfit)


def _standard_error(values: Floats) -> Floats:
    found: Floats = values.std(0, ddof=1) / math.sqrt(len(values))
    return found
