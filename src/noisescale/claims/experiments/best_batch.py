"""The best batch size as a function of the learning rate."""

from __future__ import annotations

from noisescale.claims.criterion import within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.law_statistics import (
    fit_primary_series,
    law_at_optima,
    law_points,
    line_through,
    slope_statistic,
)
from noisescale.claims.panel import Panel
from noisescale.claims.planted import World
from noisescale.claims.studies.equal_noise import EQUAL_EPOCHS, EQUAL_TIME, MORE_EQUAL_EPOCHS, MORE_EQUAL_TIME
from noisescale.claims.study import obtain
from noisescale.claims.sweep_runs import SweepRuns
from noisescale.laws import PowerLaw


def best_batch(request: Request) -> Evidence:
    """C1.1: the best batch size is proportional to the learning rate."""
    world = World(by="batch" if request.null else "noise")
    equal_epochs, equal_time = (
        obtain(request, study, world) + obtain(request, more_rates, world)
        for study, more_rates in ((EQUAL_EPOCHS, MORE_EQUAL_EPOCHS), (EQUAL_TIME, MORE_EQUAL_TIME))
    )
    epochs_law, time_law = _best_batch_law(equal_epochs), _best_batch_law(equal_time)
    proportional = within(1, 0.5)
    curves = (
        law_points("equal epochs, as in the paper", epochs_law),
        law_points("equal ε·steps", time_law),
        line_through("B ∝ ε", epochs_law, 1.0),
        line_through("B ∝ √ε", epochs_law, 0.5, "reference"),
    )
    sweeps = equal_epochs + equal_time
    return Evidence(
        statistics=(
            slope_statistic("slope of log B_opt at equal epochs", epochs_law, equal_epochs.seeds, proportional),
            slope_statistic("slope of log B_opt at equal ε·steps", time_law, equal_time.seeds, proportional),
        ),
        panels=(Panel("learning rate ε", "best batch size, examples", curves, log_x=True, log_y=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        provenance=sweeps.provenance,
    )


def _best_batch_law(sweeps: SweepRuns) -> PowerLaw:
    """Fit the best batch size against the rate. Each sweep has a single rate and a single width."""
    series = [fit_primary_series(study) for study in sweeps.studies]
    rates = [ladder.fixed_value for ladder in series]
    optima = [ladder.widths[0].optima["accuracy"] for ladder in series]
    batches = [optimum.batch_size for optimum in optima]
    return law_at_optima(rates, optima, batches, "best batch", "rate")
