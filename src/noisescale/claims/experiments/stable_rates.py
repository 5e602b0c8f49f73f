"""The largest stable learning rate over widths, and the largest batch size at which the best noise can be reached."""

from __future__ import annotations

import numpy as np

from noisescale.claims.criterion import Criterion, below, within
from noisescale.claims.evidence import Evidence, Request
from noisescale.claims.law_statistics import fit_primary_series, law_points, line_through, seeds_of, slope_statistic
from noisescale.claims.panel import Panel
from noisescale.claims.planted import PlantedStudy, World
from noisescale.claims.statistic import Statistic, over_seeds
from noisescale.claims.studies.stability import (
    SQUARED_ERROR,
    STABLE_RATES,
    STANDARD_SQUARED_ERROR,
    STANDARD_STABLE_RATES,
)
from noisescale.claims.studies.widths import OVER_WIDTHS
from noisescale.claims.study import obtain
from noisescale.claims.sweep_runs import SweepRuns, slopes
from noisescale.laws import fit
from noisescale.store import Study

_MARGIN = 0.25


def stable_rate(request: Request) -> Evidence:
    """C1.6: ε_½, the largest stable rate, does not depend on width under NTK and falls as 1/width under standard."""
    world = World(edge_slope=0.5) if request.null else World(edge_slope=0.0)
    largest, statistics, curves, further, sweeps = 0.0, [], [], [], SweepRuns(())
    for name, study, squared_study, slope, planted_world in (
        ("NTK", STABLE_RATES, SQUARED_ERROR, 0.0, world),
        ("standard", STANDARD_STABLE_RATES, STANDARD_SQUARED_ERROR, -1.0, world.standard()),
    ):
        ladders = obtain(request, study, planted_world)
        sweeps += ladders
        (group,) = fit(ladders.study).groups
        laws = sorted(group.edge_laws, key=lambda law: law.batch_size)
        largest, seeds = laws[-1].batch_size, max(edge.edge.seeds for edge in group.edges)
        criterion = within(slope, _MARGIN)
        by_batch = [slope_statistic(f"{name}, B = {law.batch_size:g}", law.law, seeds, criterion) for law in laws]
        statistics.append(by_batch[-1])
        further += by_batch[:-1]
        curves += [law_points(name, laws[-1].law), line_through(f"slope {slope:g}", laws[-1].law, slope)]
        if request.scale != "gpu":  # squared error is only reported, and has no sweeps at GPU scale
            squared = obtain(request, squared_study, planted_world)
            sweeps += squared
            further += _with_squared_error(squared.study, name, criterion)
    panel = Panel("width", f"largest stable rate at B = {largest:g}", tuple(curves), log_x=True, log_y=True)
    return Evidence(
        statistics=tuple(statistics),
        panels=(panel,),
        runs=sweeps.count,
        setting=f"{sweeps.setting}. ε_½ is the median threshold of the seeds. The verdict rests on cross-entropy.",
        beside=tuple(further),
        provenance=sweeps.provenance,
    )


def _with_squared_error(study: Study | PlantedStudy, name: str, criterion: Criterion) -> list[Statistic]:
    """Fit slopes with squared error at B = N: of ε_½ and, in trained studies, of 2/λ_max of the tangent kernel."""
    (group,) = fit(study).groups
    (law,) = group.edge_laws
    seeds = max(edge.edge.seeds for edge in group.edges)
    statistics = [slope_statistic(f"{name}, squared error at B = N", law.law, seeds, criterion)]
    if isinstance(study, Study):
        curves, runs = study.curves(), study.runs()
        start = curves[curves.step == 0].merge(runs.loc[runs.purpose == "sweep", ["run_id", "width", "seed"]])
        rates = 2 / start.pivot(index="seed", columns="width", values="ntk_lambda_max").sort_index(axis=1)
        log_widths, log_rates = (np.log(part.to_numpy(dtype=np.float64)) for part in (rates.columns, rates))
        statistics.append(
            over_seeds(
                f"{name}, 2/λ_max of the tangent kernel at the start", slopes(log_widths, log_rates), "1",
                "exponent of width", criterion,
            )
        )  # fmt: skip
    return statistics


def largest_batch_falls(request: Request) -> Evidence:
    """C1.7: the largest batch size B* at which the best noise scale can be reached falls with width."""
    # In the null experiment, the largest stable rate grows faster with width than the best noise.
    sweeps = obtain(request, OVER_WIDTHS, World(edge_slope=2.0) if request.null else World())
    series = fit_primary_series(sweeps.study)
    law = series.laws["accuracy"].largest_batch
    curves = (law_points("measured", law), line_through("ε_½ constant: B* ∝ 1/width", law, -1.0))
    return Evidence(
        statistics=(slope_statistic("slope of log B*", law, seeds_of(series), below(0)),),
        panels=(Panel("width", "largest batch B*, examples", curves, log_x=True, log_y=True),),
        runs=sweeps.count,
        setting=f"{sweeps.setting}; B* solves B = ε_½(B)·N/g_opt",
        reported=sweeps.late_share(),
        provenance=sweeps.provenance,
    )
