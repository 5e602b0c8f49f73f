"""The best test accuracy over widths, each width at its own optimum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from noisescale.claims.criterion import above, below, below_or_open
from noisescale.claims.cross_fitting import at_cells, chosen_by_others
from noisescale.claims.evidence import Evidence, NotRun, Request
from noisescale.claims.law_statistics import fit_primary_series
from noisescale.claims.panel import Curve, Floats, Panel, mean_with_errors
from noisescale.claims.planted import World
from noisescale.claims.statistic import Statistic, from_interval, over_seeds
from noisescale.claims.studies.widths import OVER_WIDTHS, SMALL_DATA_OVER_WIDTHS, STANDARD_OVER_WIDTHS
from noisescale.claims.study import obtain
from noisescale.claims.sweep_runs import cell_values, slopes
from noisescale.estimate import two_sided
from noisescale.laws import Series, Trend, trend

_FEWEST_WIDTHS = 6


@dataclass(frozen=True)
class Peaks:
    """The accuracy at the optimum of each width whose peak lies within its ladder.

    Args:
        widths: Widths, increasing, shape [W].
        accuracy: Accuracy of each seed at the optimum, shape [W, S].
        shape_errors: Standard error of the accuracy at each width that the shape of its curve leaves, shape [W]. All
            seeds share it, and more seeds do not reduce it.
    """

    widths: Floats
    accuracy: Floats
    shape_errors: Floats

    def at(self, widths: list[float], seeds: int) -> Peaks:
        """Return some of the widths, with the first seeds.

        Args:
            widths: Widths to keep.
            seeds: Number of seeds to keep.
        """
        kept = np.isin(self.widths, widths)
        return Peaks(self.widths[kept], self.accuracy[kept, :seeds], self.shape_errors[kept])


def peaks_of(series: Series) -> Peaks:
    """Return the peaks of a series by accuracy, with the seeds that all widths have.

    Args:
        series: The fits of the ladders of several widths.
    """
    optima = [(width.width, width.optima["accuracy"]) for width in series.widths]
    peaks = [
        (width, optimum.curve)
        for width, optimum in optima
        if optimum.in_law and optimum.late and optimum.curve.censored == 0
    ]
    seeds = min((len(curve.height_by_seed) for _, curve in peaks), default=0)
    return Peaks(
        np.array([width for width, _ in peaks]),
        np.array([curve.height_by_seed[:seeds] for _, curve in peaks]).reshape(len(peaks), seeds),
        np.array([curve.shape_error for _, curve in peaks]),
    )


def rise_over_widths(peaks: Peaks) -> tuple[Trend, Statistic, Statistic]:
    """Test whether the peaks rise with width.

    Args:
        peaks: The peaks of at least two widths.

    Returns:
        The trend, the rank correlation of the peaks with width, and their gain per doubling of width.
    """
    rise = trend(peaks.widths, peaks.accuracy.T, shared_errors=peaks.shape_errors)
    # The part of the error that more seeds do not reduce is what the shapes add to the error of the seeds alone.
    from_seeds = trend(peaks.widths, peaks.accuracy.T).spearman
    added = max((rise.spearman.value - rise.spearman.low) ** 2 - (from_seeds.value - from_seeds.low) ** 2, 0.0)
    octaves = np.log2(peaks.widths)
    return (
        rise,
        from_interval(
            "rank correlation of peak accuracy with width", rise.spearman, rise.seeds, above(0),
            shared_error=math.sqrt(added) / two_sided(rise.seeds - 1),
        ),
        over_seeds(
            "gain per doubling of width", slopes(octaves, peaks.accuracy.T), "fraction", "per doubling of width",
            above(0), shared_error=float(np.linalg.norm(slopes(octaves, np.diag(peaks.shape_errors)))),
        ),
    )  # fmt: skip


def lower_at_optimum(ntk: Peaks, standard: Peaks) -> Statistic:
    """Test whether the peaks of NTK networks are lower, averaged over widths.

    Args:
        ntk: Peaks of NTK networks.
        standard: Peaks of standard networks at the same widths, with the same seeds.
    """
    # The curves of one parameterization may be alike at all widths, and then their shape errors do not average out.
    shape_error = math.hypot(float(ntk.shape_errors.mean()), float(standard.shape_errors.mean()))
    return over_seeds(
        "NTK minus standard", (ntk.accuracy - standard.accuracy).mean(0), "fraction",
        "accuracy at the optimum, mean over widths", below(0), shared_error=shape_error,
    )  # fmt: skip


def peak_rises(request: Request) -> Evidence:
    """C1.5: wider networks have higher test accuracy when each width is trained at its own optimum."""
    # In the null experiment, the peaks of all widths are equally high, and sharper where the network is narrow.
    # Permuting the widths would not remove the effect: the widths with an optimum could still be correlated with
    # accuracy.
    sweeps = obtain(request, OVER_WIDTHS, World(gain=0.0, sharpening=1.0) if request.null else World())
    peaks = peaks_of(fit_primary_series(sweeps.study))
    if len(peaks.widths) < 2:
        raise NotRun("fewer than two widths have an optimum within their ladder")
    rise, rank, gain = rise_over_widths(peaks)
    runs, widths = sweeps.table(), peaks.widths
    batch = float(runs.batch_size[runs.width == runs.width.max()].max())
    fixed = np.array([cell_values(runs, width=width, batch_size=batch) for width in widths])
    at_optimum = np.array([(mean.value, mean.low, mean.high) for mean in rise.means]).T
    curves = (
        Curve("each at its own optimum", widths, *at_optimum),
        Curve(f"all at B = {batch:g}", widths, fixed.mean(1)),
    )
    return Evidence(
        statistics=(rank,),
        panels=(Panel("width", "test accuracy", curves, log_x=True),),
        runs=sweeps.count,
        setting=sweeps.setting,
        reported=sweeps.late_share(),
        beside=(
            gain,
            over_seeds(f"gain per doubling of width, all at B = {batch:g}", slopes(np.log2(widths), fixed.T),
                       "fraction", "least squares on log₂ width", above(0)),
        ),
        provenance=sweeps.provenance,
    )  # fmt: skip


def ntk_is_worse(request: Request) -> Evidence:
    """C1.9: at finite width, NTK networks generalize worse than standard networks, each at its optimum."""
    # In the null experiment, the peaks of NTK networks are as high, and twice as sharp.
    ntk_world = World(curvature=0.16) if request.null else World(height=0.59)
    ntk = obtain(request, OVER_WIDTHS, ntk_world)
    standard = obtain(request, STANDARD_OVER_WIDTHS, World().standard())
    peaks = {name: peaks_of(fit_primary_series(sweep.study)) for name, sweep in (("NTK", ntk), ("standard", standard))}
    widths = sorted(set(peaks["NTK"].widths) & set(peaks["standard"].widths))
    if not widths:
        raise NotRun("no width has an optimum within its ladder in both parameterizations")
    seeds = min(item.accuracy.shape[1] for item in peaks.values())
    peaks = {name: item.at(widths, seeds) for name, item in peaks.items()}
    curves = tuple(mean_with_errors(name, item.widths, item.accuracy) for name, item in peaks.items())
    sweeps = ntk + standard
    return Evidence(
        statistics=(lower_at_optimum(peaks["NTK"], peaks["standard"]),),
        panels=(Panel("width", "test accuracy at the optimum", curves, log_x=True),),
        runs=sweeps.count,
        setting=f"{sweeps.setting}; compared at widths {', '.join(f'{width:g}' for width in widths)}",
        reported=sweeps.late_share(),
        provenance=sweeps.provenance,
    )


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


def _at_width(peaks: Floats, widths: Floats, width: float) -> Floats:
    """Interpolate the peaks [W, S] to a width, linearly in log width."""
    return np.array([np.interp(math.log2(width), np.log2(widths), values) for values in peaks.T])
