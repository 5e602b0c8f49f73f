"""Learning rates against batch sizes at one width: which of their combinations are the same noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from noisescale.claims.claim import Curve, Evidence, Panel, Request
from noisescale.claims.criterion import Statistic, above, below, over_seeds, within
from noisescale.claims.ladders import (
    Floats,
    cell,
    law_of,
    line,
    points,
    run_count,
    series_of_study,
    share_of_late,
    slopes,
    table,
    through,
)
from noisescale.claims.planted import World
from noisescale.claims.studies import (
    more_rates_at_equal_epochs,
    more_rates_at_equal_time,
    obtain,
    rates_and_batches_at_equal_epochs,
    rates_and_batches_at_equal_time,
)
from noisescale.laws.equivalence import MARGIN, SHARE
from noisescale.laws.power_law import PowerLaw
from noisescale.laws.study_shape import StudyLike

_NETWORK = "MLP, one hidden layer of width 64, NTK, no batch norm, MNIST-1D, ε from 2 to 8, five batches at each"
_EPOCHS = "150 epochs, constant rate"
# Levels of ε/B that at least three rates share, each with the one farthest from it in the grid, its control: one to two
# octaves, so that the margin is never wider than that of η/S × 4.
_LEVELS = {2 / 11: 2 / 3, 0.25: 2 / 3, 1 / 3: 2 / 3, 0.5: 2 / 11, 2 / 3: 2 / 11}


def best_batch(request: Request) -> Evidence:
    """C1.1: the best batch size is proportional to the learning rate."""
    world = World(by="batch" if request.null else "noise")
    equal_epochs, equal_time = (
        [study for build in builds for study in obtain(request, build, world)]
        for builds in (
            (rates_and_batches_at_equal_epochs, more_rates_at_equal_epochs),
            (rates_and_batches_at_equal_time, more_rates_at_equal_time),
        )
    )
    first, second = _law(equal_epochs), _law(equal_time)
    proportional = within(1, 0.5)
    panel = Panel(
        "learning rate ε", "best batch size, examples",
        (points("equal epochs, as in the paper", first), points("equal ε·steps", second),
         through("B ∝ ε", first, 1.0), through("B ∝ √ε", first, 0.5)),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            line("slope of log B_opt at equal epochs", first, _seeds(equal_epochs), proportional),
            line("slope of log B_opt at equal ε·steps", second, _seeds(equal_time), proportional),
        ),
        (panel,), run_count(*equal_epochs, *equal_time),
        f"{_NETWORK}, and ε = 5 and 10; {_EPOCHS}, and ε·steps = 400,000",
        share_of_late(*equal_epochs, *equal_time),
    )  # fmt: skip


def collapse(request: Request) -> Evidence:
    """C1.2: late accuracy is a function of ε/B alone."""
    studies = obtain(request, rates_and_batches_at_equal_epochs, _also_by_rate(request))
    runs = table(studies)
    differences = np.stack([2 * _per_doubling(runs, level) for level in _LEVELS], 1)
    controls = np.stack([_at(runs, level).mean(0) - _at(runs, other).mean(0) for level, other in _LEVELS.items()], 1)
    own = runs.groupby(["learning_rate", "batch_size"]).accuracy.mean().reset_index()
    panel = Panel(
        "ε/B, 1/examples", "late test accuracy",
        tuple(
            Curve(f"ε = {rate:g}", (part.learning_rate / part.batch_size).to_numpy(), part.accuracy.to_numpy())
            for rate, part in own.groupby("learning_rate")
        ),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        _agreement("change from ε = 2 to 8 at equal ε/B", differences, controls), (panel,), run_count(*studies),
        f"{_NETWORK}, {_EPOCHS}; five levels of ε/B, each beside one an octave or two away",
        reported=share_of_late(*studies),
        beside=(
            *(over_seeds(f"change from ε = 2 to 8 at ε/B = {level:.2g}", own, "fraction", "accuracy", within(0, 0.01))
              for level, own in zip(_LEVELS, differences.T, strict=True)),
            _control_at_equal_time(request),
        ),
    )  # fmt: skip


def curves_coincide(request: Request) -> Evidence:
    """C4.1: whole training curves at equal η/S coincide."""
    studies = obtain(request, rates_and_batches_at_equal_epochs, _also_by_rate(request))
    curves = [_curves(study) for study in studies]
    both = pd.concat(curves, ignore_index=True)
    differences, controls = [], []
    for level in (0.25, 1 / 3, 0.5):
        own, scaled = (_trajectory(both, rate, rate / level) for rate in (2.0, 8.0))
        differences.append(own - scaled)
        controls.append(own - _trajectory(both, 2.0, 2.0 / _LEVELS[level]))
    shown = both.groupby(["learning_rate", "batch_size", "epoch"]).test_accuracy.mean().reset_index()
    trained = shown[shown.epoch > 0]  # chance at the start would set the scale
    panel = Panel(
        "epochs", "test accuracy",
        tuple(
            Curve(f"η = {rate:g}, S = {rate / noise:g}", part.epoch.to_numpy(), part.test_accuracy.to_numpy())
            for noise in (0.25, 2 / 3)
            for rate in (2.0, 8.0)
            for part in (_one_cell(trained, rate, rate / noise),)
        ),
    )  # fmt: skip
    return Evidence(
        _agreement("curves of η = 2 and 8 at equal η/S", np.hstack(differences), np.hstack(controls)), (panel,),
        run_count(*studies), f"{_NETWORK}, {_EPOCHS}; test accuracy at every evaluation, η/S = ¼, ⅓ and ½",
    )  # fmt: skip


def more_noise_helps(request: Request) -> Evidence:
    """C4.4: below an optimum, higher η/S leads to better test accuracy."""
    world = World(best=1.0) if request.null else World()
    found = {
        name: table(obtain(request, build, world))
        for name, build in (("equal epochs", rates_and_batches_at_equal_epochs),
                            ("equal η·steps", rates_and_batches_at_equal_time))
    }  # fmt: skip
    statistics, curves = [], []
    for name, runs in found.items():
        convention = "slope of accuracy below the optimum that other seeds show"
        gain = _gain_below_optimum(runs)
        statistics.append(over_seeds(f"gain an octave of η/S, {name}", gain, "fraction", convention, above(0)))
        one = runs[runs.learning_rate == runs.learning_rate.max()]
        part = one.groupby("batch_size").accuracy.agg(["mean", "sem"]).reset_index()
        x = float(one.learning_rate.iloc[0]) / part.batch_size.to_numpy()
        mean, half = part["mean"].to_numpy(), 2 * part["sem"].to_numpy()
        curves.append(Curve(f"η = 8, {name}, ± 2 standard errors", x, mean, mean - half, mean + half))
    panel = Panel("η/S, 1/examples", "late test accuracy", tuple(curves), log_x=True)
    return Evidence(
        tuple(statistics), (panel,), sum(len(runs) for runs in found.values()),
        f"{_NETWORK}; {_EPOCHS}, and η·steps = 400,000",
    )  # fmt: skip


def _law(studies: Sequence[StudyLike]) -> PowerLaw:
    fitted = [series_of_study(study)[1] for study in studies]
    optima = [series.widths[0].optima["accuracy"] for series in fitted]
    return law_of(
        [series.fixed_value for series in fitted], optima, [found.batch_size for found in optima], "best batch", "rate"
    )


def _also_by_rate(request: Request) -> World:
    """Taken out: at equal ε/B the rate itself moves the accuracy, as much as the noise does."""
    return World(rate_effect=0.02) if request.null else World()


def _at(runs: pd.DataFrame, level: float) -> Floats:
    """[M, S], the accuracies of every rate that has this ε/B."""
    own = runs[np.isclose(runs.learning_rate / runs.batch_size, level, rtol=0.01)]
    return np.array([cell(part) for _, part in own.groupby("learning_rate")])


def _per_doubling(runs: pd.DataFrame, level: float) -> Floats:
    """Change of accuracy for each doubling of ε at equal ε/B, one a seed, by least squares over the rates."""
    own = runs[np.isclose(runs.learning_rate / runs.batch_size, level, rtol=0.01)]
    return slopes(np.log2(np.sort(own.learning_rate.unique())), _at(runs, level).T)


def _control_at_equal_time(request: Request) -> Statistic:
    runs = table(obtain(request, rates_and_batches_at_equal_time, _also_by_rate(request)))
    difference = _at(runs, 0.5).mean(0) - _at(runs, 2 / 11).mean(0)
    return over_seeds("from ε/B = 2/11 to ½ at equal ε·steps", difference, "fraction", "accuracy", above(0))


def _curves(study: StudyLike) -> pd.DataFrame:
    """Test accuracy along training; of planted runs, which have none, a curve towards the late value."""
    runs = study.runs()
    runs = runs[runs.purpose == "sweep"]
    names = ["run_id", "learning_rate", "batch_size", "seed"]
    if hasattr(study, "curves"):
        own: pd.DataFrame = study.curves()[["run_id", "epoch", "test_accuracy"]].merge(runs[names], on="run_id")
        own["place"] = own.groupby("run_id").cumcount()
        return own
    parts = [
        runs.assign(
            place=place, epoch=10.0 * place, test_accuracy=0.1 + (runs.test_accuracy - 0.1) * (1 - math.exp(-place))
        )
        for place in range(8)
    ]
    return pd.concat(parts, ignore_index=True)


def _one_cell(curves: pd.DataFrame, rate: float, batch: float) -> pd.DataFrame:
    return curves[(curves.learning_rate == rate) & (curves.batch_size == round(batch))]


def _trajectory(curves: pd.DataFrame, rate: float, batch: float) -> Floats:
    """[S, T]; a run that diverged has no accuracy and counts as at chance."""
    own = _one_cell(curves, rate, batch).pivot(index="seed", columns="place", values="test_accuracy")
    found: Floats = own.sort_index().fillna(0.1).to_numpy(dtype=np.float64)
    return found


def _agreement(name: str, differences: Floats, controls: Floats) -> tuple[Statistic, Statistic]:
    """Whether the mean square of differences is below the margin's, and whether the control's is above 0.

    Squares, so that differences of opposite signs do not cancel; without what the seeds' noise adds to them, so that
    more seeds do not make two settings more alike.

    Arguments:
        differences, controls: [S, M], of M comparisons.
    """
    control = _square(controls)
    shared = SHARE**2 * control
    margin = shared if shared.mean() > MARGIN**2 else np.full_like(shared, MARGIN**2)
    return (
        over_seeds(f"{name}: mean square − margin", _square(differences) - margin, "1",
                   "of the accuracy's differences, unbiased; margin: ½ point, or a quarter of the control", below(0)),
        over_seeds(f"{name}: mean square of the control", control, "1", "at another ε/B", above(0)),
    )  # fmt: skip


def _square(differences: Floats) -> Floats:
    """Jackknife pseudo-values [S] of the unbiased mean square of mean differences [S, M]."""
    n = len(differences)

    def squared(own: Floats) -> float:
        return float(np.mean(own.mean(0) ** 2 - own.var(0, ddof=1) / len(own)))

    whole = squared(differences)
    left = np.array([squared(np.delete(differences, seed, 0)) for seed in range(n)])
    found: Floats = n * whole - (n - 1) * left
    return found


def _gain_below_optimum(runs: pd.DataFrame) -> Floats:
    """Slope of accuracy on log₂(η/S) over cells up to the optimum, mean over rates; one a seed.

    Half of the seeds choose where the optimum is for the other half.
    """
    gains = []
    for _, part in runs.groupby("learning_rate"):
        values = part.pivot(index="seed", columns="batch_size", values="accuracy").sort_index()
        x, y = -np.log2(values.columns.to_numpy(dtype=np.float64)), values.to_numpy(dtype=np.float64)
        half = len(y) // 2
        own = []
        for choosing, reporting in ((y[half:], y[:half]), (y[:half], y[half:])):
            # Batches ascend, so noise falls: the cells from the optimum on are those below it.
            first = min(int(choosing.mean(0).argmax()), y.shape[1] - 2)
            own.append(slopes(x[first:], reporting[:, first:]))
        gains.append(np.concatenate(own))
    found: Floats = np.mean(gains, axis=0)
    return found


def _seeds(studies: Sequence[StudyLike]) -> int:
    return int(studies[0].runs().seed.nunique())
