"""Learning rates against batch sizes at one width: which of their combinations are the same noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from noisescale.claims.agreement import curves_alike, farthest_level, mean_squares, means_alike
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
    survives,
    table,
    through,
    training_curves,
)
from noisescale.claims.planted import PlantedStudy, World
from noisescale.claims.studies import (
    BOTH_BUDGETS,
    curvature_at_the_start,
    more_rates_at_equal_epochs,
    more_rates_at_equal_time,
    obtain,
    one_rate_at_equal_time,
    rates_and_batches_at_equal_epochs,
    rates_and_batches_at_equal_time,
    rates_below_the_edge,
)
from noisescale.laws.power_laws import PowerLaw
from noisescale.laws.study_shape import StudyLike

_NETWORK = "MLP, one hidden layer of width 64, NTK, no batch norm, MNIST-1D"
_GRID = f"{_NETWORK}, ε from 2 to 8, five batches at each"
_BELOW = f"{_NETWORK}, ε = 1 and 4, both below the mean 2/λ_max at the start"
_EPOCHS = "150 epochs, constant rate"
# Levels of ε/B of both rates that decide, and those that at least three rates of the grid share. Two of them are the
# control: an octave and a half apart, so that the margin is never wider than that of η/S × 4, and the same accuracy is
# not met again beyond an optimum.
_LEVELS = (1 / 6, 0.25, 1 / 3, 0.5)
_MORE_LEVELS = (*_LEVELS, 2 / 3)
_CONTROL = (0.5, 1 / 6)
_OF_LARGER = "change from ε = 2 to 8, by least squares over its rates"
# Rates of the grid with fewer seeds in the figure, and the factor of ε/B between the places of neighbouring rates.
_SHOWN_BESIDE, _APART = (2.0, 8.0), 1.025


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
         through("B ∝ ε", first, 1.0), through("B ∝ √ε", first, 0.5, "reference")),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (
            line("slope of log B_opt at equal epochs", first, _seeds(equal_epochs), proportional),
            line("slope of log B_opt at equal ε·steps", second, _seeds(equal_time), proportional),
        ),
        (panel,), run_count(*equal_epochs, *equal_time),
        f"{_GRID}, and ε = 5 and 10; {_EPOCHS}, and ε·steps = 400,000",
        share_of_late(*equal_epochs, *equal_time),
    )  # fmt: skip


def collapse(request: Request) -> Evidence:
    """C1.2: late accuracy is a function of ε/B alone, at every level of it, where training starts below 2/λ_max.

    Larger rates, which start above it, stand beside.
    """
    studies = obtain(request, rates_below_the_edge, _also_by_rate(request))
    larger = obtain(request, rates_and_batches_at_equal_epochs, _also_by_rate(request))
    runs, at_larger = table(studies), table(larger)
    control = _control(runs)
    differences = _changes(runs, _LEVELS)
    levels = means_alike("change from ε = 1 to 4", _named(_LEVELS), differences, control)
    with_time, at_time = (
        over_seeds(f"control at equal {what}, ε = {BOTH_BUDGETS:g}",
                   _control(own), "fraction", "accuracy", above(0))
        for what, own in (("epochs", runs[runs.learning_rate == BOTH_BUDGETS]), ("ε·steps", _at_equal_time(request)))
    )  # fmt: skip
    edges, below_edge = _edges_at_the_start(request)
    of_larger = _changes(at_larger, _MORE_LEVELS)
    own = pd.concat([runs, at_larger[at_larger.learning_rate.isin(_SHOWN_BESIDE)]])
    own = own.groupby(["learning_rate", "batch_size"]).accuracy.agg(["mean", "sem"]).reset_index()
    panel = Panel(
        "ε/B, 1/examples (points of one ε/B are drawn side by side)", "late test accuracy",
        tuple(
            Curve(f"ε = {rate:g}, ± 2 standard errors",
                  _APART**place * (part.learning_rate / part.batch_size).to_numpy(), *_with_ends(part))
            for place, (rate, part) in enumerate(own.groupby("learning_rate"))
        ),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        farthest_level(levels), (panel,), run_count(*studies),
        f"{_BELOW}; {_EPOCHS}; four levels of ε/B; control: from ε/B = 1/6 to ½",
        reported={
            **share_of_late(*studies),
            **_reported("change from ε = 1 to 4", _LEVELS, differences),
            **_reported(_OF_LARGER, _MORE_LEVELS, of_larger),
            **survives("of the control where ε·steps is equal", with_time.estimate, at_time.estimate),
            **below_edge,
        },
        beside=(
            *(contrast for contrast, _ in levels),
            *curves_alike("change from ε = 1 to 4, all levels", differences, control[:, None]),
            *(contrast for contrast, _ in means_alike(_OF_LARGER, _named(_MORE_LEVELS), of_larger,
                                                      _control(at_larger))),
            *edges,
            with_time,
            at_time,
        ),
    )  # fmt: skip


def curves_coincide(request: Request) -> Evidence:
    """C4.1: whole training curves at equal η/S coincide, at every level of it, where training starts below 2/λ_max."""
    studies = obtain(request, rates_below_the_edge, _also_by_rate(request))
    trained = _after_the_start(studies)
    control = _difference(trained, (BOTH_BUDGETS, _CONTROL[0]), (BOTH_BUDGETS, _CONTROL[1]))
    differences = [_difference(trained, (1.0, level), (4.0, level)) for level in _LEVELS]
    pairs = [
        curves_alike(f"curves of η = 1 and 4 at η/S = {level:.2g}", own, control)
        for level, own in zip(_LEVELS, differences, strict=True)
    ]
    shown = trained.groupby(["learning_rate", "batch_size", "epoch"]).test_accuracy.agg(["mean", "sem"]).reset_index()
    panel = Panel(
        "epochs", "test accuracy",
        tuple(
            Curve(f"η = {rate:g}, S = {rate / noise:g}, ± 2 standard errors", part.epoch.to_numpy(), *_with_ends(part))
            for noise in _CONTROL
            for rate in (1.0, 4.0)
            for part in (_one_cell(shown, rate, rate / noise),)
        ),
    )  # fmt: skip
    at_equal_time = _control_of_curves_at_equal_time(request)
    whole, left = pairs[0][1].estimate, at_equal_time.estimate
    edges, below_edge = _edges_at_the_start(request)
    return Evidence(
        farthest_level(pairs), (panel,), run_count(*studies),
        f"{_BELOW}; {_EPOCHS}; test accuracy at every evaluation, at four η/S; control: η = 4, η/S = 1/6 and ½",
        reported=share_of_late(*studies)
        | survives("of the control's distance where η·steps is equal", whole, left, 0.5)
        | below_edge,
        beside=(
            *(contrast for contrast, _ in pairs),
            *curves_alike("curves, all η/S", np.hstack(differences), control),
            *_curves_of_larger_rates(request),
            *edges,
            at_equal_time,
        ),
    )  # fmt: skip


def more_noise_helps(request: Request) -> Evidence:
    """C4.4: below an optimum, higher η/S leads to better test accuracy."""
    world = World(curvature=0.0) if request.null else World()
    studies = {
        name: obtain(request, build, world)
        for name, build in (("equal epochs", rates_and_batches_at_equal_epochs),
                            ("equal η·steps", rates_and_batches_at_equal_time))
    }  # fmt: skip
    found = {name: table(own) for name, own in studies.items()}
    convention = "slope of accuracy below the optimum that other seeds show"

    def gain(name: str, runs: pd.DataFrame) -> Statistic:
        return over_seeds(f"gain an octave of η/S, {name}", _gain_below_optimum(runs), "fraction", convention, above(0))

    deciding = {name: gain(name, runs) for name, runs in found.items()}
    late = {name: gain(f"{name}, late cells only", own) for name, runs in found.items()
            if (own := _late_cells(runs)) is not None}  # fmt: skip
    curves = []
    for name, runs in found.items():
        one = runs[runs.learning_rate == runs.learning_rate.max()]
        part = one.groupby("batch_size").accuracy.agg(["mean", "sem"]).reset_index()
        x = float(one.learning_rate.iloc[0]) / part.batch_size.to_numpy()
        curves.append(Curve(f"η = 8, {name}, ± 2 standard errors", x, *_with_ends(part)))
    return Evidence(
        tuple(deciding.values()), (Panel("η/S, 1/examples", "late test accuracy", tuple(curves), log_x=True),),
        sum(len(runs) for runs in found.values()), f"{_GRID}; {_EPOCHS}, and η·steps = 400,000",
        reported={
            **{f"{text}, {name}": share
               for name, own in studies.items() for text, share in share_of_late(*own).items()},
            **survives("of the gain at equal epochs where η·steps is equal", deciding["equal epochs"].estimate,
                       deciding["equal η·steps"].estimate),
            **{words: share for name, own in late.items() for words, share in survives(
                f"of the gain at {name} in late cells only", deciding[name].estimate, own.estimate).items()},
        },
        beside=tuple(late.values()),
    )  # fmt: skip


def _late_cells(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Runs of cells whose test accuracy had ceased to move; None where a rate has fewer than two of them."""
    late = runs[runs.late.fillna(False).astype(bool)]
    cells = late.groupby("learning_rate").batch_size.nunique()
    enough = len(cells) == runs.learning_rate.nunique() and bool((cells > 1).all())
    return late if enough else None


def _law(studies: Sequence[StudyLike]) -> PowerLaw:
    fitted = [series_of_study(study)[1] for study in studies]
    optima = [series.widths[0].optima["accuracy"] for series in fitted]
    return law_of(
        [series.fixed_value for series in fitted], optima, [found.batch_size for found in optima], "best batch", "rate"
    )


def _also_by_rate(request: Request) -> World:
    """Taken out: at equal ε/B a fourfold rate moves the accuracy by a little more than a quarter of the control."""
    return World(rate_effect=0.003) if request.null else World()


def _at(runs: pd.DataFrame, level: float) -> Floats:
    """[M, S], the accuracies of every rate that has this ε/B."""
    own = runs[np.isclose(runs.learning_rate / runs.batch_size, level, rtol=0.01)]
    return np.array([cell(part) for _, part in own.groupby("learning_rate")])


def _changes(runs: pd.DataFrame, levels: Sequence[float]) -> Floats:
    """Change of accuracy [S, M] where ε grows fourfold at equal ε/B, at each level of it; with more than two rates by
    least squares.
    """
    return np.stack([2 * _per_doubling(runs, level) for level in levels], 1)


def _named(levels: Sequence[float]) -> list[str]:
    return [f"ε/B = {level:.2g}" for level in levels]


def _reported(change: str, levels: Sequence[float], found: Floats) -> dict[str, float]:
    return {f"{change} at {name}": float(own.mean()) for name, own in zip(_named(levels), found.T, strict=True)}


def _edges_at_the_start(request: Request) -> tuple[list[Statistic], dict[str, float]]:
    """ε·λ_max at initialization, of the largest rate that decides and of the largest beside; of planted runs none.

    And the share of seeds at which the first of them is below 2.
    """
    (study,) = obtain(request, curvature_at_the_start)
    if isinstance(study, PlantedStudy):
        return [], {}
    curvature = study.curves().lambda_max.dropna().to_numpy(dtype=np.float64)
    edges = [
        over_seeds(f"ε·λ_max at the start, ε = {rate:g}", rate * curvature, "1", "all training examples", side(2))
        for rate, side in ((4.0, below), (8.0, above))
    ]
    return edges, {"share of seeds with ε·λ_max below 2 at the start, ε = 4": float((4 * curvature < 2).mean())}


def _per_doubling(runs: pd.DataFrame, level: float) -> Floats:
    """Change of accuracy for each doubling of ε at equal ε/B, one a seed, by least squares over the rates."""
    own = runs[np.isclose(runs.learning_rate / runs.batch_size, level, rtol=0.01)]
    return slopes(np.log2(np.sort(own.learning_rate.unique())), _at(runs, level).T)


def _at_equal_time(request: Request) -> pd.DataFrame:
    return table(obtain(request, one_rate_at_equal_time, _also_by_rate(request)))


def _control(runs: pd.DataFrame) -> Floats:
    """Change of accuracy [S] between the levels of the control, mean over the rates that have them."""
    found: Floats = _at(runs, _CONTROL[0]).mean(0) - _at(runs, _CONTROL[1]).mean(0)
    return found


def _curves_of_larger_rates(request: Request) -> list[Statistic]:
    """The same of η = 2 and 8, of which the larger starts above 2/λ_max; the distances alone."""
    studies = obtain(request, rates_and_batches_at_equal_epochs, _also_by_rate(request))
    trained = _after_the_start(studies)
    control = _difference(trained, (2.0, _CONTROL[0]), (2.0, _CONTROL[1]))
    return [
        curves_alike(f"curves of η = 2 and 8 at η/S = {level:.2g}",
                     _difference(trained, (2.0, level), (8.0, level)), control)[0]
        for level in _LEVELS
    ]  # fmt: skip


def _control_of_curves_at_equal_time(request: Request) -> Statistic:
    studies = obtain(request, one_rate_at_equal_time, _also_by_rate(request))
    trained = _after_the_start(studies)
    distance = mean_squares(_difference(trained, (BOTH_BUDGETS, _CONTROL[0]), (BOTH_BUDGETS, _CONTROL[1])))
    return over_seeds(f"control at equal η·steps, η = {BOTH_BUDGETS:g}: mean square", distance, "1",
                      "of the accuracy's differences, unbiased", above(0))  # fmt: skip


def _after_the_start(studies: Sequence[StudyLike]) -> pd.DataFrame:
    """Training curves without step 0, where all are alike, and at chance, which would set the figure's scale."""
    curves = pd.concat([training_curves(study) for study in studies], ignore_index=True)
    return curves[curves.epoch > 0]


def _with_ends(part: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Means with ± 2 standard errors."""
    mean, half = part["mean"].to_numpy(dtype=np.float64), 2 * part["sem"].to_numpy(dtype=np.float64)
    return mean, mean - half, mean + half


def _one_cell(curves: pd.DataFrame, rate: float, batch: float) -> pd.DataFrame:
    return curves[(curves.learning_rate == rate) & (curves.batch_size == round(batch))]


def _difference(curves: pd.DataFrame, one: tuple[float, float], other: tuple[float, float]) -> Floats:
    """Of the curves [S, T] of two (η, η/S)."""
    return _trajectory(curves, one[0], one[0] / one[1]) - _trajectory(curves, other[0], other[0] / other[1])


def _trajectory(curves: pd.DataFrame, rate: float, batch: float) -> Floats:
    """[S, T]; a run that diverged has no accuracy and counts as at chance."""
    own = _one_cell(curves, rate, batch).pivot(index="seed", columns="place", values="test_accuracy")
    found: Floats = own.sort_index().fillna(0.1).to_numpy(dtype=np.float64)
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
