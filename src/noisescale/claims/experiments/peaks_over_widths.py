"""The best test accuracy over widths, each width at its own optimum."""

from __future__ import annotations

import math

import numpy as np

from noisescale.claims.criterion import above, below, below_or_open
from noisescale.claims.cross_fitting import at_cells, chosen_by_others
from noisescale.claims.evidence import Evidence, NotRun, Request
from noisescale.claims.law_statistics import fit_primary_series, seeds_of
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_errors
from noisescale.claims.planted import World
from noisescale.claims.statistic import from_t_interval, over_seeds
from noisescale.claims.studies.widths import OVER_WIDTHS, SMALL_DATA_OVER_WIDTHS, STANDARD_OVER_WIDTHS
from noisescale.claims.study import obtain
from noisescale.claims.sweep_runs import cell_values, slopes
from noisescale.laws import Series, trend

_FEWEST_WIDTHS = 6


def peak_rises(request: Request) -> Evidence:
    """C1.5: wider networks have higher test accuracy when each width is trained at its own optimum."""
    # In the null experiment, every width has the same peak. Permuting the widths would not remove the effect: the
    # widths with an optimum could still be correlated with accuracy.
    sweeps = obtain(request, OVER_WIDTHS, World(gain=0.0) if request.null else World())
    series = fit_primary_series(sweeps.study)
    peaks = _peaks(series)
    if len(peaks) < 2:
        raise NotRun("fewer than two widths have an optimum within their ladder")
    rise = trend(np.array(sorted(peaks)), np.array([peaks[width] for width in sorted(peaks)]).T)
    runs = sweeps.table()
    widths = np.array(rise.widths)
    batch = float(runs.batch_size[runs.width == runs.width.max()].max())
    fixed = np.array([cell_values(runs, width=width, batch_size=batch) for width in widths])
    at_optimum = np.array([(mean.value, mean.low, mean.high) for mean in rise.means]).T
    curves = (
        Curve("each at its own optimum", widths, *at_optimum),
        Curve(f"all at B = {batch:g}", widths, fixed.mean(1)),
    )
    rank = from_t_interval("rank correlation of peak accuracy with width", rise.spearman, rise.seeds, above(0))
    return Evidence(
        statistics=(rank,),
        panels=(Panel("width", "test accuracy", curves, log_x=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        beside=(
            from_t_interval("gain per doubling of width", rise.gain_per_doubling, rise.seeds, above(0)),
            over_seeds(f"gain per doubling of width, all at B = {batch:g}", slopes(np.log2(widths), fixed.T),
                       "fraction", "least squares on log₂ width", above(0)),
        ),
        provenance=sweeps.provenance,
    )  # fmt: skip


def ntk_is_worse(request: Request) -> Evidence:
    """C1.9: at finite width, NTK networks generalize worse than standard networks, each at its optimum."""
    loss = 0.0 if request.null else 0.01
    ntk = obtain(request, OVER_WIDTHS, World(height=0.6 - loss))
    standard = obtain(request, STANDARD_OVER_WIDTHS, World().standard())
    series = {name: fit_primary_series(sweep.study) for name, sweep in (("NTK", ntk), ("standard", standard))}
    peaks = {name: _peaks(fitted) for name, fitted in series.items()}
    widths = sorted(set(peaks["NTK"]) & set(peaks["standard"]))
    if not widths:
        raise NotRun("no width has an optimum within its ladder in both parameterizations")
    seeds = min(seeds_of(fitted) for fitted in series.values())
    accuracy = {name: np.array([by_width[width][:seeds] for width in widths]) for name, by_width in peaks.items()}
    curves = tuple(mean_with_errors(name, np.array(widths), values) for name, values in accuracy.items())
    sweeps = ntk + standard
    return Evidence(
        statistics=(
            over_seeds("NTK minus standard", (accuracy["NTK"] - accuracy["standard"]).mean(0), "fraction",
                       "accuracy at the optimum, mean over widths", below(0)),
        ),
        panels=(Panel("width", "test accuracy at the optimum", curves, log_x=True),),
        runs=sweeps.count,
        setting=f"{sweeps.setting}; compared at widths {', '.join(f'{width:g}' for width in widths)}",
        reported=sweeps.late_share(),
        provenance=sweeps.provenance,
    )  # fmt: skip


def critical_width(request: Request) -> Evidence:
    """C1.10: the accuracy of SGD with a constant learning rate stops improving beyond some width.

    If there is no such width among the trained widths, the claim stays open.
    """
    sweeps = obtain(request, SMALL_DATA_OVER_WIDTHS, World(slope=0.0, saturates=not request.null))
    runs = sweeps.table()
    widths = np.array(sorted(runs.width.unique()), dtype=np.float64)
    batches = sorted(runs.batch_size.unique())
    accuracy = [
        np.stack([cell_values(runs, width=width, batch_size=batch) for batch in batches], 1) for width in widths
    ]
    cells = np.stack([chosen_by_others(values, "halves") for values in accuracy])
    # A width whose best batch is an end of the ladder may have its peak beyond the ladder.
    within_ladder = ((cells > 0) & (cells < len(batches) - 1)).all(1)
    if within_ladder.sum() < _FEWEST_WIDTHS:
        raise NotRun("fewer than six widths have their best batch within the ladder")
    peaks = np.stack([at_cells(values, cell) for values, cell in zip(accuracy, cells, strict=True)])[within_ladder]
    left_out, widths = widths[~within_ladder], widths[within_ladder]
    narrow, wide = widths[0], widths[-1]
    first_gain = _at_width(peaks, widths, 4 * narrow) - peaks[0]
    last_gain = peaks[-1] - _at_width(peaks, widths, wide / 4)
    return Evidence(
        statistics=(
            over_seeds(f"gain from width {narrow:g} to {4 * narrow:g}", first_gain, "fraction",
                       "accuracy at the best batch", above(0)),
            over_seeds(f"gain from width {wide / 4:g} to {wide:g} minus a quarter of the first gain",
                       last_gain - first_gain / 4, "fraction", "accuracy at the best batch", below_or_open(0)),
        ),
        panels=(
            Panel("width", "test accuracy at the best batch", (mean_with_errors("each width", widths, peaks),),
                  log_x=True),
        ),
        runs=sweeps.count,
        setting=f"{sweeps.setting}, {_widths_in_words(widths, left_out)}",
        reported=sweeps.late_share(),
        provenance=sweeps.provenance,
    )  # fmt: skip


def _widths_in_words(widths: Floats, left_out: Floats) -> str:
    used, missing = (", ".join(f"{width:g}" for width in part) for part in (widths, left_out))
    return f"widths {used}" + (f" (not {missing}, whose best batch is an end of the ladder)" if missing else "")


def _peaks(series: Series) -> dict[float, tuple[float, ...]]:
    """Return each seed's accuracy at the optimum, for every width whose peak lies within the ladder."""
    return {
        width.width: width.optima["accuracy"].curve.height_by_seed
        for width in series.widths
        if width.optima["accuracy"].in_law and width.optima["accuracy"].curve.censored == 0
    }


def _at_width(peaks: Floats, widths: Floats, width: float) -> Floats:
    """Interpolate the peaks [W, S] to a width, linearly in log width."""
    return np.array([np.interp(math.log2(width), np.log2(widths), values) for values in peaks.T])
