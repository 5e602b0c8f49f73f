"""How the best noise, the peak, the stable rate and the largest batch move with width."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from noisescale.claims.claim import Curve, Evidence, NotRun, Panel, Request
from noisescale.claims.criterion import Statistic, above, below, by_t, over_seeds, sought_below, within
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
from noisescale.claims.planted import PlantedStudy, World
from noisescale.claims.studies import (
    convolutional_networks_with_batch_norm,
    init_scales,
    obtain,
    over_widths,
    over_widths_at_equal_epochs,
    residual_networks_with_batch_norm,
    small_data_over_widths,
    squared_error_on_all_examples,
    stable_rates,
    standard_over_widths,
    standard_squared_error_on_all_examples,
    standard_stable_rates,
)
from noisescale.laws.fitting import fit
from noisescale.laws.results import Series
from noisescale.laws.trends import trend as height_trend
from noisescale.store import Study

# Half of the gap between the slopes 0, ½ and 1 for "does not move"; "in proportion" must exclude 0, ½ and 3/2.
_EQUAL, _PROPORTIONAL = 0.25, 0.5
_NETWORK = "MLP, one hidden layer, no batch norm, MNIST-1D, 20,000 test examples, constant rate"
_LOSS = "by test loss, at equal ε·steps"


def noise_in_proportion(request: Request) -> Evidence:
    """C1.3: under NTK the best ḡ is proportional to width."""
    (study,) = obtain(request, over_widths, World(shuffled=request.null))
    _, series = series_of_study(study)
    (at_epochs,) = obtain(request, over_widths_at_equal_epochs, World(shuffled=request.null))
    _, paper = series_of_study(at_epochs)
    law, own = series.laws["accuracy"].normalized_noise_scale, paper.laws["accuracy"].normalized_noise_scale
    proportional = within(1, _PROPORTIONAL)
    panel = Panel(
        "width", "best normalized noise scale ḡ",
        (points("equal ε·steps", law), points("equal epochs, as in the paper", own), through("ḡ ∝ width", law, 1.0)),
        log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (line("slope of log ḡ_opt at equal ε·steps", law, _seeds(series), proportional),),
        (panel,), run_count(study, at_epochs), f"{_NETWORK}, NTK, ε = 8, widths 32 to 128",
        reported=share_of_late(study, at_epochs),
        beside=(
            line("slope at equal epochs", own, _seeds(paper), proportional),
            line(f"slope {_LOSS}", series.laws["loss"].normalized_noise_scale, _seeds(series), proportional),
            line("slope with widths without a peak as bounds", series.laws["accuracy"].with_bounds, _seeds(series),
                 proportional),
        ),
    )  # fmt: skip


def temperature_stays(request: Request) -> Evidence:
    """C1.4: in the standard parameterization the best ε/B does not depend on width."""
    # Taken out: labels of widths exchanged; under the papers' law the best ḡ = g·d/σ0² goes as width here too.
    (study,) = obtain(request, standard_over_widths, _standard(World(slope=0.0) if request.null else World()))
    _, series = series_of_study(study)
    law = series.laws["accuracy"].temperature
    panel = Panel(
        "width", "best ε/B, 1/examples",
        (points("standard", law), through("ε/B constant", law, 0.0), through("as under NTK, ε/B ∝ width", law, 1.0)),
        log_x=True, log_y=True,
    )  # fmt: skip
    normalized = series.laws["accuracy"].normalized_noise_scale
    return Evidence(
        (line("slope of log (ε/B)_opt", law, _seeds(series), within(0, _EQUAL)),),
        (panel,), run_count(study), f"{_NETWORK}, standard parameterization, ε = 0.25, widths 32 to 128",
        reported=share_of_late(study),
        beside=(
            line("slope of log ḡ_opt", normalized, _seeds(series), within(1, _PROPORTIONAL)),
            line(f"slope {_LOSS}", series.laws["loss"].temperature, _seeds(series), within(0, _EQUAL)),
        ),
    )  # fmt: skip


def peak_rises(request: Request) -> Evidence:
    """C1.5: each at its own optimum, wider networks have higher test accuracy."""
    # Taken out: the same peak at every width. Exchanged labels leave an order among those widths that have an optimum.
    (study,) = obtain(request, over_widths, World(gain=0.0) if request.null else World())
    _, series = series_of_study(study)
    # A peak at the end of its ladder is not the peak: of widths with an optimum only.
    peaks = _peaks(series)
    if len(peaks) < 2:
        raise NotRun("fewer than two widths with an optimum within its ladder")
    trend = height_trend(np.array(sorted(peaks)), np.array([peaks[width] for width in sorted(peaks)]).T)
    runs = table([study])
    widths = np.array(trend.widths)
    least = float(runs.batch_size[runs.width == runs.width.max()].max())
    fixed = np.array([cell(runs, width=width, batch_size=least) for width in widths])
    panel = Panel(
        "width", "test accuracy",
        (
            Curve("each at its own optimum", widths,
                  *np.array([(one.value, one.low, one.high) for one in trend.means]).T),
            Curve(f"all at B = {least:g}", widths, fixed.mean(1)),
        ),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        (by_t("rank correlation of peak accuracy with width", trend.spearman, trend.seeds, above(0)),),
        (panel,), run_count(study), f"{_NETWORK}, NTK, ε = 8, equal ε·steps, widths 32 to 128",
        reported=share_of_late(study),
        beside=(
            by_t("gain for each doubling of width", trend.gain_per_doubling, trend.seeds, above(0)),
            over_seeds(f"gain for each doubling, all at B = {least:g}", slopes(np.log2(widths), fixed.T),
                       "fraction", "least squares on log₂ width", above(0)),
        ),
    )  # fmt: skip


def stable_rate(request: Request) -> Evidence:
    """C1.6: ε_½ does not depend on width under NTK and falls as 1/width in the standard parameterization."""
    world = World(edge_slope=0.5) if request.null else World(edge_slope=0.0)
    largest, statistics, curves, beside, studies = 0.0, [], [], [], []
    for name, build, of_squared, own_world in (
        ("NTK", stable_rates, squared_error_on_all_examples, world),
        ("standard", standard_stable_rates, standard_squared_error_on_all_examples, _standard(world)),
    ):
        slope = 0.0 if name == "NTK" else -1.0
        (study,) = obtain(request, build, own_world)
        studies.append(study)
        (group,) = fit(study).groups
        laws = sorted(group.edge_laws, key=lambda own: own.batch_size)
        largest, seeds = laws[-1].batch_size, max(edge.edge.seeds for edge in group.edges)
        own = [line(f"{name}, B = {law.batch_size:g}", law.law, seeds, within(slope, _EQUAL)) for law in laws]
        statistics.append(own[-1])
        beside += own[:-1]
        curves += [points(name, laws[-1].law), through(f"slope {slope:g}", laws[-1].law, slope)]
        if request.scale != "gpu":  # it decides nothing, and has no sweeps there
            (squared,) = obtain(request, of_squared, own_world)
            studies.append(squared)
            beside += _of_squared_error(squared, name, slope)
    panel = Panel("width", f"largest stable rate at B = {largest:g}", tuple(curves), log_x=True, log_y=True)
    return Evidence(
        tuple(statistics), (panel,), run_count(*studies),
        f"{_NETWORK}; median threshold of 16 seeds (standard: 8) within 300 steps, cross-entropy",
        beside=tuple(beside),
    )  # fmt: skip


def _of_squared_error(study: Study | PlantedStudy, name: str, slope: float) -> list[Statistic]:
    """The same of squared error at B = N, and of 2/λ_max of the tangent kernel where it was measured."""
    (own,) = fit(study).groups
    (law,) = own.edge_laws
    seeds = max(edge.edge.seeds for edge in own.edges)
    found = [line(f"{name}, squared error at B = N", law.law, seeds, within(slope, _EQUAL))]
    if isinstance(study, Study):
        curves, runs = study.curves(), study.runs()
        start = curves[curves.step == 0].merge(runs.loc[runs.purpose == "sweep", ["run_id", "width", "seed"]])
        rates = 2 / start.pivot(index="seed", columns="width", values="ntk_lambda_max").sort_index(axis=1)
        by_seed = slopes(np.log(rates.columns.to_numpy(dtype=np.float64)), np.log(rates.to_numpy(dtype=np.float64)))
        found.append(
            over_seeds(
                f"{name}, 2/λ_max of the tangent kernel at the start",
                by_seed,
                "1",
                "exponent of width",
                within(slope, _EQUAL),
            )
        )
    return found  # fmt: skip


def largest_batch_falls(request: Request) -> Evidence:
    """C1.7: the largest batch that is consistent with the best noise falls with width."""
    # Taken out: stable rates that grow faster than the best noise does.
    (study,) = obtain(request, over_widths, World(edge_slope=2.0) if request.null else World())
    _, series = series_of_study(study)
    law = series.laws["accuracy"].largest_batch
    panel = Panel(
        "width", "largest batch B*, examples",
        (points("measured", law), through("ε_½ constant: B* ∝ 1/width", law, -1.0)), log_x=True, log_y=True,
    )  # fmt: skip
    return Evidence(
        (line("slope of log B*", law, _seeds(series), below(0)),), (panel,), run_count(study),
        f"{_NETWORK}, NTK; B* solves B = ε_½(B)·N/g_opt",
        share_of_late(study),
    )  # fmt: skip


def with_batch_norm(request: Request) -> Evidence:
    """C1.8: with batch norm the best ḡ grows with width in residual networks and not in convolutional ones."""
    # Taken out: labels of widths exchanged.
    world = World(best=5.5 + math.log(8), shuffled=request.null)
    (residual,) = obtain(request, residual_networks_with_batch_norm, world)
    (convolutional,) = obtain(request, convolutional_networks_with_batch_norm, World(best=5.5, slope=0.0))
    statistics, curves = [], []
    for name, study, criterion in (
        ("residual", residual, above(0)),
        ("convolutional", convolutional, within(0, _EQUAL)),
    ):
        _, series = series_of_study(study)
        law = series.laws["accuracy"].normalized_noise_scale
        statistics.append(line(f"slope of log ḡ_opt, {name} networks", law, _seeds(series), criterion))
        curves += [points(f"{name} networks", law)]
    panel = Panel("width", "best normalized noise scale ḡ", tuple(curves), log_x=True, log_y=True)
    return Evidence(
        tuple(statistics), (panel,), run_count(residual, convolutional),
        "two residual blocks, and three convolutions, with batch norm, NTK, ε = 1, 1,000 steps, 8×8 digits with a "
        "fifth of the labels redrawn, widths 4 to 16",
        share_of_late(residual, convolutional),
    )  # fmt: skip


def ntk_is_worse(request: Request) -> Evidence:
    """C1.9: at finite width NTK networks generalize worse than standard ones, each at its optimum."""
    loss = 0.0 if request.null else 0.01
    (ntk,) = obtain(request, over_widths, World(height=0.6 - loss))
    (standard,) = obtain(request, standard_over_widths, _standard(World()))
    fitted = {name: series_of_study(study)[1] for name, study in (("NTK", ntk), ("standard", standard))}
    peaks = {name: _peaks(series) for name, series in fitted.items()}
    widths = sorted(set(peaks["NTK"]) & set(peaks["standard"]))
    if not widths:
        raise NotRun("no width with an optimum within its ladder in both parameterizations")
    seeds = range(min(_seeds(series) for series in fitted.values()))
    by_seed = {name: np.array([own[width][: len(seeds)] for width in widths]) for name, own in peaks.items()}
    panel = Panel(
        "width", "test accuracy at the optimum",
        tuple(
            Curve(f"{name}, ± 2 standard errors", np.array(widths), y.mean(1), y.mean(1) - half, y.mean(1) + half)
            for name, y in by_seed.items()
            for half in (2 * y.std(1, ddof=1) / math.sqrt(len(seeds)),)
        ),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        (over_seeds("NTK minus standard", (by_seed["NTK"] - by_seed["standard"]).mean(0), "fraction",
                    "accuracy at the optimum, mean over widths", below(0)),),
        (panel,), run_count(ntk, standard), f"{_NETWORK}, widths {', '.join(f'{width:g}' for width in widths)}",
        share_of_late(ntk, standard),
    )  # fmt: skip


def critical_width(request: Request) -> Evidence:
    """C1.10: beyond some width constant SGD stops to improve.

    That there is such a width among those that were tried supports it; that there is none leaves it open.
    """
    (study,) = obtain(request, small_data_over_widths, World(slope=0.0, saturates=not request.null))
    runs = table([study])
    widths = np.array(sorted(runs.width.unique()), dtype=np.float64)
    batches = sorted(runs.batch_size.unique())
    found = np.array([[cell(runs, width=width, batch_size=batch) for batch in batches] for width in widths])
    # Each half of the seeds chooses the batch for the other.
    half = found.shape[2] // 2
    # A width whose best batch is an end of the ladder has no peak to compare.
    places = np.stack([own.mean(2).argmax(1) for own in (found[:, :, :half], found[:, :, half:])])
    inside = ((places > 0) & (places < len(batches) - 1)).all(0)
    dropped = ", ".join(f"{width:g}" for width in widths[~inside])
    without = f" (not {dropped}, whose best batch is an end of its ladder)" if dropped else ""
    widths, found = widths[inside], found[inside]
    if len(widths) < 6:
        raise NotRun("fewer than six widths whose best batch lies within its ladder")
    peaks = np.concatenate(
        [_chosen(found[:, :, half:], found[:, :, :half]), _chosen(found[:, :, :half], found[:, :, half:])], 1
    )
    narrow, wide = widths[0], widths[-1]
    first = _at_width(peaks, widths, 4 * narrow) - peaks[0]
    last = peaks[-1] - _at_width(peaks, widths, wide / 4)
    panel = Panel(
        "width", "test accuracy at the best batch",
        (Curve("± 2 standard errors", widths, peaks.mean(1),
               *(peaks.mean(1) + sign * 2 * peaks.std(1, ddof=1) / math.sqrt(peaks.shape[1]) for sign in (-1, 1))),),
        log_x=True,
    )  # fmt: skip
    return Evidence(
        (
            over_seeds(f"gain from width {narrow:g} to {4 * narrow:g}", first, "fraction",
                       "accuracy at the best batch", above(0)),
            over_seeds(f"gain from width {wide / 4:g} to {wide:g} − a quarter of that", last - first / 4, "fraction",
                       "accuracy at the best batch", sought_below(0)),
        ),
        (panel,), run_count(study),
        "MLP, one hidden layer, NTK, ε = 4, 10,000 steps, MNIST-1D with 500 training examples and a fifth of their "
        f"labels redrawn, widths {', '.join(f'{width:g}' for width in widths)}{without}",
        share_of_late(study),
    )  # fmt: skip


def init_variance_is_a_unit(request: Request) -> Evidence:
    """C1.11: the best g is proportional to the initial variance's σ0²."""
    world = World(by="batch" if request.null else "noise")
    studies = obtain(request, init_scales, replace(_standard(world), best=_best_at(14)))
    fitted = [series_of_study(study) for study in studies]
    optima = [series.widths[0].optima["accuracy"] for _, series in fitted]
    scales = [float(group.hyperparameters["init_scale"]) for group, _ in fitted]
    law = law_of(scales, optima, [found.noise_scale for found in optima], "best noise scale", "initial variance")
    panel = Panel(
        "σ0²", "best noise scale g", (points("measured", law), through("g ∝ σ0²", law, 1.0)), log_x=True, log_y=True
    )
    return Evidence(
        (line("slope of log g_opt on log σ0²", law, _seeds(fitted[0][1]), within(1, _PROPORTIONAL)),),
        (panel,), run_count(*studies), f"{_NETWORK}, standard parameterization, width 64, ε = 0.25, σ0² = 1 to 4",
        share_of_late(*studies),
    )  # fmt: skip


def _peaks(series: Series) -> dict[float, tuple[float, ...]]:
    """Accuracy at the optimum by width, one a seed, of the widths that a law may use."""
    return {
        width.width: width.optima["accuracy"].curve.height_by_seed
        for width in series.widths
        if width.optima["accuracy"].in_law and width.optima["accuracy"].curve.censored == 0
    }


def _chosen(selecting: Floats, reporting: Floats) -> Floats:
    """[W, S] of the reporting seeds at the batch that the selecting ones find best."""
    best = selecting.mean(2).argmax(1)
    found: Floats = np.take_along_axis(reporting, best[:, None, None], 1)[:, 0]
    return found


def _at_width(peaks: Floats, widths: Floats, width: float) -> Floats:
    """Peaks [S] at a width, between its neighbours in log width where it has none of its own; peaks [W, S]."""
    return np.array([np.interp(math.log2(width), np.log2(widths), own) for own in peaks.T])


def _standard(world: World) -> World:
    """The same world seen through the standard parameterization: ε = 0.25 and ḡ = g·width/2 at width 64."""
    return replace(world, best=_best_at(18), edge=2.0, edge_slope=world.edge_slope - 1)


def _best_at(batch: int) -> float:
    return math.log(0.25 * (4000 / batch - 1) * 32)


def _seeds(series: Series) -> int:
    return max(len(width.seeds) for width in series.widths)
