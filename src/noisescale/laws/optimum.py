"""The position of a metric's optimum along a ladder of rates or noise scales, with its interval.

A ladder is an increasing sequence of rates or noise scales, and a cell is one of its values, measured by several seeds.
The interval holds the central 95 % of the posterior over many shapes of the curve (`curve_posterior`). So it carries
what the ladder cannot resolve: the top of a sharp peak between two cells, for example.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noisescale.errors import BadInput
from noisescale.estimate import CONFIDENCE, Estimate, no_estimate, student_quantile, two_sided
from noisescale.laws.cell_means import CellMeans, cell_means
from noisescale.laws.curve_posterior import CurvePosterior, curve_posterior
from noisescale.laws.failure_rates import failure_rates
from noisescale.laws.metric_scale import metric_scale
from noisescale.laws.optima import MINIMUM_CELLS, MINIMUM_SEEDS, OPTIMUM_ADVICE, Optimum, Peak
from noisescale.laws.peaks import PeakRange, separated_peaks
from noisescale.laws.place_laws import PlaceDensity
from noisescale.laws.shape_priors import ShapePrior

Array = NDArray[np.float64]

_ON_AXIS = "natural logarithm of the ladder's quantity: ḡ, g or ε"
# Curves drawn from a posterior, and points of each, where failures change the place of the optimum.
_DRAWS, _POINTS = 1000, 241
# Curves that are kept for decisions.
_KEPT_DRAWS = 500
# Standard error of a height without any noise, as a share of the span.
_ROUNDING = 1e-6


def optimum(
    x: Array,
    y: Array,
    usable: NDArray[np.bool_] | None = None,
    *,
    maximize: bool = True,
    report: Array | None = None,
    failed: NDArray[np.bool_] | None = None,
    constant: float = math.nan,
    shapes: ShapePrior | None = None,
    confidence: float = CONFIDENCE,
) -> Optimum:
    """Locate the optimum of a curve measured by several seeds, with its interval.

    Args:
        x: Natural logarithm of the learning rate or of the noise scale, increasing, shape [cells].
        y: Metric of each seed, paired over cells, shape [seeds, cells].
        usable: Mask of the cells to use (training has converged), shape [cells]. Default: all cells.
        maximize: False for a loss.
        report: Metric whose height is reported at the optimum, shape [seeds, cells]. Default: `y`.
        failed: Mask of the runs that failed, shape [seeds, cells]. Their metric is that of the constant predictor.
            Default: none.
        constant: Metric of the constant predictor. The span of the metric is the distance from it to the best cell.
            Default: twice the distance from the median cell to the best.
        shapes: Prior of the curve's shape. Default: no similar curve is known.
        confidence: Level of every interval.

    Returns:
        The optimum, with a label that says how far to trust it.

    Raises:
        BadInput: The shapes do not fit, x does not increase, or a usable cell is not finite.

    Source:
        Posterior over the shapes of `curve_shapes`; coverage in `benchmarks/coverage.py`.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    keep = np.ones(x.shape, dtype=bool) if usable is None else np.asarray(usable, dtype=bool)
    report = y if report is None else np.asarray(report, dtype=np.float64)
    failed = np.zeros(y.shape, dtype=bool) if failed is None else np.asarray(failed, dtype=bool)
    others = (report.shape, failed.shape)
    if y.ndim != 2 or x.shape != (y.shape[1],) or keep.shape != x.shape or others != (y.shape, y.shape):
        required = "x[cells], y[seeds, cells], usable[cells], report[seeds, cells] and failed[seeds, cells]"
        raise BadInput("optimum", required, y.shape)
    if np.any(np.diff(x) <= 0):
        raise BadInput("optimum", "x must increase from cell to cell", x.tolist())
    if not (np.all(np.isfinite(y[:, keep])) and np.all(np.isfinite(x[keep])) and np.all(np.isfinite(report[:, keep]))):
        raise BadInput("optimum", "every usable cell must be finite", "NaN or infinity")
    sign = 1.0 if maximize else -1.0
    same = report is y or bool(np.array_equal(report, y))
    y, report, failed = sign * y[:, keep], sign * report[:, keep], failed[:, keep]
    scale = metric_scale(np.where(failed, math.nan, y), sign * constant)
    floor = sign * constant if math.isfinite(constant) else _median(y[failed])
    ladder = _Ladder(
        x[keep],
        scale.units(y),
        scale.units(report),
        failed,
        float(scale.units(np.array(floor))),
        shapes,
        confidence,
    )
    result = scale.metric(ladder.optimum(same=same), sign)
    peaks = tuple(scale.metric(peak, sign) for peak in result.peaks)
    return replace(result, peaks=peaks, span=scale.span if y.size else math.nan)


@dataclass(frozen=True)
class _Outcomes:
    """Draws of the optimum where runs fail: its place on a grid, the curve of the survivors and the failure rate."""

    grid: Array
    place: Array
    curve: Array
    failure_rate: Array


@dataclass(frozen=True)
class _Ladder:
    """The usable cells of a ladder, with a metric `y` to maximize, in spans above the best cell."""

    x: Array
    y: Array
    report: Array
    failed: NDArray[np.bool_]
    constant: float
    shapes: ShapePrior | None
    confidence: float

    def optimum(self, *, same: bool) -> Optimum:
        seeds, cells = self.y.shape
        argmax, equal_cells = _indistinguishable(self.x, self.y, self.confidence)
        alive = ~self.failed.all(axis=0)
        if seeds < MINIMUM_SEEDS or cells < MINIMUM_CELLS or not alive.any():
            label = "too_few_seeds" if seeds < MINIMUM_SEEDS else "too_few_cells"
            height = no_estimate("metric", "no fit")
            place = Estimate(math.nan, math.nan, math.nan, "1", _ON_AXIS)
            advice = OPTIMUM_ADVICE[label]
            return Optimum(
                label,
                advice,
                place,
                math.nan,
                height,
                (),
                math.nan,
                (),
                argmax,
                equal_cells,
                seeds,
                cells,
                1.0,
                None,
                None,
                None,
            )
        survivors = np.where(self.failed, math.nan, self.y)
        ranges, rivals = separated_peaks(self._cell_means(survivors, np.ones(cells, dtype=bool)))
        peaks = tuple(self._peak(survivors, part, same=same) for part in ranges)
        best = peaks[0]
        label, low, high = best.label, best.place.low, best.place.high
        if rivals:
            low, high = min(low, peaks[1].place.low), max(high, peaks[1].place.high)
            bounded = math.isfinite(low) and math.isfinite(high)
            # An open end says more than the second peak.
            label = rivals if bounded or rivals == "two_peaks" else self._label(best.place.value, low, high)
        error = best.standard_error
        if label == "unresolved" and math.isfinite(high - low):
            error = max(error, (high - low) / (2 * two_sided(math.inf, self.confidence)))
        return Optimum(
            label=label,
            advice=OPTIMUM_ADVICE[label],
            place=replace(best.place, low=low, high=high),
            standard_error=error,
            height=best.height,
            height_by_seed=best.height_by_seed,
            shape_error=best.shape_error,
            peaks=peaks,
            argmax=argmax,
            indistinguishable=equal_cells,
            seeds=seeds,
            cells=cells,
            span=1.0,
            likelihood=_joined([peak.likelihood for peak in (peaks if rivals else peaks[:1])]),
            shape=best.shape,
            draws=best.draws,
        )

    def _cell_means(self, y: Array, inside: NDArray[np.bool_]) -> CellMeans:
        return cell_means(self.x[inside], y[:, inside], 1.0)

    def _peak(self, survivors: Array, part: PeakRange, *, same: bool) -> Peak:
        inside = (self.x >= part.low - 1e-12) & (self.x <= part.high + 1e-12)
        cells = self._cell_means(survivors, inside)
        low, high = (part.low, part.high)
        cells = replace(cells, low=max(cells.low, low), high=min(cells.high, high))
        posterior = curve_posterior(cells, self.shapes)
        outcomes = self._with_failures(posterior)
        density = self._place_density(posterior, outcomes)
        tail = (1 - self.confidence) / 2
        place, low, high = (density.quantile(p) for p in (0.5, tail, 1 - tail))
        error = math.sqrt(density.moments[1])
        label = self._label(place, low, high)
        ends = -math.inf if low < self.x[0] else low, math.inf if high > self.x[-1] else high
        place = float(np.clip(place, self.x[0], self.x[-1]))
        height, by_seed, shape_error = self._height(posterior, density, outcomes, label, inside, same=same)
        heights = tuple(float(value) for value in by_seed)
        likelihood = replace(density, open_low=math.isinf(ends[0]), open_high=math.isinf(ends[1]))
        return Peak(
            label=label,
            place=Estimate(place, *ends, "1", _ON_AXIS),
            standard_error=error,
            height=height,
            height_by_seed=heights,
            shape_error=shape_error,
            likelihood=likelihood,
            shape=posterior.shape_moments(),
            draws=posterior.sample(_KEPT_DRAWS, np.random.default_rng(1)),
        )

    def _label(self, place: float, low: float, high: float) -> str:
        open_low, open_high = low < self.x[0], high > self.x[-1]
        if open_low and open_high:
            return "flat"
        if open_low:
            return "censored_low" if place <= self.x[0] else "not_identified_low"
        if open_high:
            return "censored_high" if place >= self.x[-1] else "not_identified_high"
        return "interior"

    def _place_density(self, posterior: CurvePosterior, outcomes: _Outcomes | None) -> PlaceDensity:
        """Return the density of the optimum's place."""
        if outcomes is None:
            return PlaceDensity(posterior.places, posterior.density, open_low=False, open_high=False)
        step = float(outcomes.grid[1] - outcomes.grid[0])
        tops = np.rint((outcomes.place - outcomes.grid[0]) / step).astype(np.intp)
        density = np.bincount(tops, minlength=outcomes.grid.size).astype(np.float64)
        # The draws are few: smooth them over three points.
        density = np.convolve(density, [0.25, 0.5, 0.25], mode="same")
        return PlaceDensity(outcomes.grid, density / density.sum(), open_low=False, open_high=False)

    def _with_failures(self, posterior: CurvePosterior) -> _Outcomes | None:
        """Draw the optimum's place, the curve and the failure rate there; None if no run failed where it matters."""
        middle = posterior.cells.x
        concerned = (self.x >= middle[0]) & (self.x <= max(middle[-1], posterior.cells.high))
        if not self.failed[:, concerned].any():
            return None
        generator = np.random.default_rng(0)
        first = np.flatnonzero(self.x >= middle[0])[0]
        counts = self.failed[:, first:].sum(axis=0).astype(np.float64)
        rates = failure_rates(self.x[first:], counts, np.full(counts.size, float(self.failed.shape[0])))
        # Failures move the optimum to places where the curve of the surviving runs is not highest.
        grid = np.linspace(min(middle[0], posterior.places[0]), max(middle[-1], posterior.places[-1]), _POINTS)
        draws = posterior.sample(_DRAWS, generator)
        curves = draws.heights[:, None] - draws.drop(grid)
        p = rates.draws(grid, _DRAWS, generator)
        tops = np.argmax(curves - p * (curves - self.constant), axis=1)
        # Beyond the ends of the ladder, no curve says how high it gets.
        within = np.flatnonzero((grid >= self.x[0]) & (grid <= self.x[-1]))
        rows, best = np.arange(_DRAWS), np.clip(tops, within[0], within[-1])
        return _Outcomes(grid, grid[tops], curves[rows, best], p[rows, best])

    def _height(
        self,
        posterior: CurvePosterior,
        density: PlaceDensity,
        outcomes: _Outcomes | None,
        label: str,
        inside: NDArray[np.bool_],
        *,
        same: bool,
    ) -> tuple[Estimate, Array, float]:
        """Return the height, each seed's height, and the error from the shape."""
        if label in ("censored_low", "censored_high"):
            by_seed = self.report[:, 0 if label == "censored_low" else -1]
            return self._height_estimate(np.full(3, by_seed.mean()), by_seed, 0.0, failures=False), by_seed, 0.0
        heights = None if outcomes is None else outcomes.curve
        if same:
            height, variance, pull = posterior.height(self.confidence)
            cells = posterior.cells
        else:
            cells = self._cell_means(np.where(self.failed, math.nan, self.report), inside)
            report_posterior = curve_posterior(cells)
            _, _, pull = report_posterior.height(self.confidence)
            levels = np.linspace(0.02, 0.98, 25)
            if outcomes is None:
                positions = np.array([density.quantile(level) for level in levels])
            else:
                positions = np.quantile(outcomes.place, levels)
            positions = np.clip(positions, self.x[0], self.x[-1])
            draws = report_posterior.sample(_DRAWS, np.random.default_rng(0))
            heights = draws.heights - draws.drop(positions[np.arange(_DRAWS) % positions.size, None])[:, 0]
        if heights is not None:
            if outcomes is not None:
                heights = heights - outcomes.failure_rate * (heights - self.constant)
            # Where a place is vague, a few of its heights lie far down a side of the curve.
            tail = (1 - self.confidence) / 2
            height = np.quantile(heights, (0.5, tail, 1 - tail))
            variance = ((height[2] - height[1]) / (2 * two_sided(math.inf, self.confidence))) ** 2
        deviations = (cells.adjusted - cells.adjusted.mean(axis=0)) @ pull
        noise = float(pull @ cells.covariance @ pull)
        shape_error = math.sqrt(max(variance - noise, 0.0))
        by_seed = height[0] + deviations
        assert by_seed.shape == self.y.shape[:1]
        estimate = self._height_estimate(height, by_seed, shape_error, failures=outcomes is not None)
        return estimate, by_seed, shape_error

    def _height_estimate(self, height: Array, by_seed: Array, shape_error: float, *, failures: bool) -> Estimate:
        """Return the height with its interval.

        Args:
            height: Mean of the posterior, and the ends of its interval, shape [3].
            by_seed: Height of each seed, shape [seeds].
            shape_error: Standard error from the shape.
            failures: Whether runs failed where they matter.
        """
        mean, low, high = (float(value) for value in height)
        seeds = by_seed.size
        # Equal values of all seeds say nothing of their noise beyond the rounding.
        variance = max(float(by_seed.var(ddof=1)) / seeds, _ROUNDING**2)
        total = variance + shape_error**2
        # Satterthwaite: the error from the shape has no degrees of freedom to lose.
        degrees = (seeds - 1) * (total / variance) ** 2
        half = two_sided(degrees, self.confidence) * math.sqrt(total)
        shift = ((high + low) / 2 - mean) * min(1.0, (high - low) / (2 * half))
        # Runs show how often they fail, but no cell shows how round the top between two cells is. Sharper tops make the
        # posterior reach further up. They do not make a flat top less likely, so the lower end stays.
        ends = (shift, shift) if failures else (min(shift, 0.0), max(shift, 0.0))
        low, high = mean - half + ends[0], mean + half + ends[1]
        return Estimate(mean, low, high, "metric", "at the optimum", math.sqrt(total))


def _median(values: Array) -> float:
    return float(np.median(values)) if values.size else math.nan


def _joined(densities: list[PlaceDensity | None]) -> PlaceDensity | None:
    """Return the mean of the densities of several peaks on one grid."""
    present = [density for density in densities if density is not None]
    if len(present) < 2:
        return present[0] if present else None
    step = min(float(density.places[1] - density.places[0]) for density in present)
    grid = np.arange(
        min(density.places[0] for density in present), max(density.places[-1] for density in present) + step, step
    )
    together = np.sum([density.on(grid) for density in present], axis=0)
    return PlaceDensity(
        grid,
        together / together.sum(),
        open_low=any(density.open_low for density in present),
        open_high=any(density.open_high for density in present),
    )


def _indistinguishable(x: Array, y: Array, confidence: float) -> tuple[float, tuple[float, ...]]:
    """Return the best cell and the cells that a paired t test does not distinguish from it."""
    if y.size == 0:
        return math.nan, ()
    best = int(np.argmax(y.mean(axis=0)))
    equal = np.zeros(x.size, dtype=bool)
    if y.shape[0] > 1:
        difference = y[:, [best]] - y
        error = difference.std(axis=0, ddof=1) / math.sqrt(y.shape[0])
        equal = difference.mean(axis=0) <= student_quantile(y.shape[0] - 1, (1 + confidence) / 2) * error
    equal[best] = True
    return float(x[best]), tuple(float(position) for position in x[equal])
