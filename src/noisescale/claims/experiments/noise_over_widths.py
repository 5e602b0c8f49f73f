"""The best noise scale over widths, by parameterization, family and initial variance."""

from __future__ import annotations

import math

from noisescale.claims.criterion import above, within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.law_statistics import (
    fit_first_group,
    fit_primary_series,
    law_at_optima,
    law_points,
    line_through,
    seeds_of,
    slope_statistic,
)
from noisescale.claims.panel import Panel
from noisescale.claims.planted import World
from noisescale.claims.studies.batch_norm import CONVOLUTIONAL_NETWORKS, RESIDUAL_NETWORKS
from noisescale.claims.studies.widths import (
    INIT_SCALES,
    OVER_WIDTHS,
    OVER_WIDTHS_AT_EQUAL_EPOCHS,
    STANDARD_OVER_WIDTHS,
)
from noisescale.claims.study import obtain

# A slope counts as 0 within ± 0.25, which is half of the gap between 0 and ½. It counts as 1 within ± ½, which excludes
# 0, ½ and 3/2.
_CONSTANT, _PROPORTIONAL = within(0, 0.25), within(1, 0.5)
_SLOPE_BY_LOSS = "slope by test loss, at equal ε·steps"


def noise_in_proportion(request: Request) -> Evidence:
    """C1.3: in the NTK parameterization without batch norm, the best ḡ is proportional to width."""
    world = World(shuffled=request.null)
    equal_time = obtain(request, OVER_WIDTHS, world)
    equal_epochs = obtain(request, OVER_WIDTHS_AT_EQUAL_EPOCHS, world)
    series = fit_primary_series(equal_time.study)
    epochs_series = fit_primary_series(equal_epochs.study)
    seeds = seeds_of(series)
    law = series.laws["accuracy"].normalized_noise_scale
    epochs_law = epochs_series.laws["accuracy"].normalized_noise_scale
    loss_law, law_with_bounds = series.laws["loss"].normalized_noise_scale, series.laws["accuracy"].with_bounds
    curves = (
        law_points("equal ε·steps", law),
        law_points("equal epochs, as in the paper", epochs_law),
        line_through("ḡ ∝ width", law, 1.0),
    )
    sweeps = equal_time + equal_epochs
    return Evidence(
        statistics=(slope_statistic("slope of log ḡ_opt at equal ε·steps", law, seeds, _PROPORTIONAL),),
        panels=(Panel("width", "best normalized noise scale ḡ", curves, log_x=True, log_y=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        beside=(
            slope_statistic("slope at equal epochs", epochs_law, seeds_of(epochs_series), _PROPORTIONAL),
            slope_statistic(_SLOPE_BY_LOSS, loss_law, seeds, _PROPORTIONAL),
            slope_statistic("slope if widths without a peak enter as bounds", law_with_bounds, seeds, _PROPORTIONAL),
        ),
        provenance=sweeps.provenance,
    )


def constant_temperature(request: Request) -> Evidence:
    """C1.4: in the standard parameterization the best ε/B does not depend on width."""
    # In the papers' law, the best ḡ = g·d/σ0² grows with width in this parameterization too. In the null experiment,
    # the best ḡ is the same at all widths.
    world = (World(slope=0.0) if request.null else World()).standard()
    sweeps = obtain(request, STANDARD_OVER_WIDTHS, world)
    series = fit_primary_series(sweeps.study)
    seeds = seeds_of(series)
    law, loss_law = series.laws["accuracy"].temperature, series.laws["loss"].temperature
    curves = (
        law_points("standard", law),
        line_through("ε/B constant", law, 0.0),
        line_through("ε/B ∝ width, as under NTK", law, 1.0),
    )
    normalized = series.laws["accuracy"].normalized_noise_scale
    return Evidence(
        statistics=(slope_statistic("slope of log (ε/B)_opt", law, seeds, _CONSTANT),),
        panels=(Panel("width", "best ε/B, 1/examples", curves, log_x=True, log_y=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        beside=(
            slope_statistic("slope of log ḡ_opt", normalized, seeds, _PROPORTIONAL),
            slope_statistic(_SLOPE_BY_LOSS, loss_law, seeds, _CONSTANT),
        ),
        provenance=sweeps.provenance,
    )


def with_batch_norm(request: Request) -> Evidence:
    """C1.8: with batch norm, the best ḡ grows with width for residual but not for convolutional networks."""
    # In the null experiment, the labels of the widths are permuted.
    residual_world = World(best=5.5 + math.log(8), shuffled=request.null)
    residual = obtain(request, RESIDUAL_NETWORKS, residual_world)
    convolutional = obtain(request, CONVOLUTIONAL_NETWORKS, World(best=5.5, slope=0.0))
    statistics, curves = [], []
    for name, sweep, criterion in (
        ("residual", residual, above(0)),
        ("convolutional", convolutional, _CONSTANT),
    ):
        series = fit_primary_series(sweep.study)
        law = series.laws["accuracy"].normalized_noise_scale
        statistics.append(slope_statistic(f"slope of log ḡ_opt, {name} networks", law, seeds_of(series), criterion))
        curves.append(law_points(f"{name} networks", law))
    sweeps = residual + convolutional
    return Evidence(
        statistics=tuple(statistics),
        panels=(Panel("width", "best normalized noise scale ḡ", tuple(curves), log_x=True, log_y=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        provenance=sweeps.provenance,
    )


def noise_over_init_variance(request: Request) -> Evidence:
    """C1.11: the best g is proportional to the initial variance σ0²."""
    world = World(by="batch" if request.null else "noise").standard(best_batch=14)
    sweeps = obtain(request, INIT_SCALES, world)
    groups = [fit_first_group(study) for study in sweeps.studies]
    scales = [group.number("init_scale") for group in groups]
    # Each sweep has a single width.
    optima = [group.primary_series.widths[0].optima["accuracy"] for group in groups]
    seeds = seeds_of(groups[0].primary_series)
    noise_scales = [optimum.noise_scale for optimum in optima]
    law = law_at_optima(scales, optima, noise_scales, "best noise scale", "initial variance")
    curves = (law_points("measured", law), line_through("g ∝ σ0²", law, 1.0))
    return Evidence(
        statistics=(slope_statistic("slope of log g_opt on log σ0²", law, seeds, _PROPORTIONAL),),
        panels=(Panel("σ0²", "best noise scale g", curves, log_x=True, log_y=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        provenance=sweeps.provenance,
    )
