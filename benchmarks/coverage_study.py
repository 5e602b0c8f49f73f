"""Measure coverage on the design of a study, with its widths, ladders, numbers of seeds, curves and noise.

Cells in which a run failed are left out, because the simulation has no failures. A fit of the study uses them, so its
intervals are narrower where failures bound an optimum.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from coverage_table import Row, Tally
from numpy.typing import NDArray
from scipy.interpolate import UnivariateSpline

from noisescale.estimate import from_log
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.edges import measured_edge_at_width
from noisescale.laws.fitting import fit
from noisescale.laws.ladder import Ladder, build_ladder
from noisescale.laws.largest_batch import largest_batch
from noisescale.laws.metric_laws import IN_LAW, NO_BENEFIT
from noisescale.laws.optima import Optimum
from noisescale.laws.optimum import optimum
from noisescale.laws.optimum_laws import optimum_law
from noisescale.laws.planted_curves import failures
from noisescale.laws.power_laws import PowerLaw
from noisescale.laws.results import EdgeAt
from noisescale.laws.run_groups import axis_of, complete_budget, run_groups, series_of
from noisescale.laws.settings import Settings, StudyLike
from noisescale.laws.stability import StabilityEdge, stability_edge

Array = NDArray[np.float64]
BRACKETED = ("bracketed", "single_cell")


def noise_law(widths: Sequence[float], optima: Sequence[Optimum], bounded: bool = False) -> PowerLaw:
    """Fit the noise law to optima as `fit` does, but without the prior of shapes that the other widths give.

    Args:
        widths: Width of each optimum.
        optima: The optima, in log ḡ.
        bounded: Whether to fit the line with bounds. Widths at which the lowest noise may be as good as the best noise
            then enter as inequalities.
    """
    labels = IN_LAW + NO_BENEFIT if bounded else IN_LAW
    rows = [
        (width, point, point.label in IN_LAW)
        for width, point in zip(widths, optima, strict=True)
        if point.label in labels
    ]
    densities = [point.likelihood for _, point, _ in rows if point.likelihood is not None]
    return optimum_law(
        [width for width, _, _ in rows],
        densities,
        bounds=[point.censored if helps else -1 for _, point, helps in rows],
        degrees=[point.seeds - 1.0 for _, point, _ in rows],
        quantity="optimum",
        unit="1",
        convention="ḡ",
    )


def by_batch(edges: dict[int, StabilityEdge]) -> EdgeByBatch:
    """Combine the stability edges of several batch sizes as `fit` does."""
    joined = measured_edge_at_width(tuple(EdgeAt(1.0, float(batch), 0, edge) for batch, edge in edges.items()), 1.0)
    assert joined is not None
    return joined


@dataclass(frozen=True)
class EdgeDesign:
    """The stability ladder of one batch size.

    Args:
        rates: Learning rates of the ladder.
        median: Median threshold over seeds.
        spread: Standard deviation of the log threshold over seeds, in nats.
        seeds: Number of seeds.
    """

    rates: Array
    median: float
    spread: float
    seeds: int


@dataclass(frozen=True)
class WidthDesign:
    """The design of one width.

    Args:
        width: The width.
        x: Positions of the ladder, in log g.
        curve: Smoothed metric over the ladder.
        top: Position of the curve's maximum, in log g.
        factor: Factor F of the residual covariance FFᵀ, shape [cells, seeds].
        law_value: Optimum that the study's law gives for this width, in log ḡ.
        seeds: Number of seeds.
        log_ratio: log ḡ − log g.
        train_size: Number of training examples.
        momentum: Momentum m.
        edges: Stability ladders, by batch size.
    """

    width: float
    x: Array
    curve: UnivariateSpline
    top: float
    factor: Array
    law_value: float
    seeds: int
    log_ratio: float
    train_size: int
    momentum: float
    edges: dict[int, EdgeDesign]

    def draw(self, generator: np.random.Generator, top: float) -> Array:
        """Draw the metric, shape [seeds, cells], from the curve shifted so that its maximum lies at `top`."""
        shifted = self.x - (top - self.top)
        clipped = np.clip(shifted, self.x[0], self.x[-1])
        # The curve continues as a straight line outside its ladder.
        mean = self.curve(clipped) + self.curve.derivative()(clipped) * (shifted - clipped)
        return np.asarray(mean + generator.standard_normal((self.seeds, self.factor.shape[1])) @ self.factor.T)


def study_rows(study: StudyLike, draws: int) -> Iterator[Row]:
    """Place the maxima of the study's curves on its law, simulate the study many times, and yield the coverage.

    Args:
        study: The study.
        draws: Number of draws.
    """
    result, settings = fit(study), Settings.read(study.spec)
    for group, runs in zip(result.groups, run_groups(study.runs()), strict=True):
        series = group.primary_series
        law = series.laws[result.metric].normalized_noise_scale
        if law.status != "ok":
            print(f"{group.parameterization}: the law is inconclusive, so nothing can be planted", file=sys.stderr)
            continue
        parts = series_of(runs.sweep, axis_of(runs.sweep, series.quantity))
        table = next(part for value, part in parts if value == series.fixed_value)
        designs = []
        for row in series.widths:
            cells = complete_budget(table[table["width"] == row.width], settings.budget)
            ladder = build_ladder(cells, series.quantity, settings.select_on, settings.units)
            values = ladder.values.get(f"{settings.select_on}_{result.metric}")
            if row.width not in (*law.widths, *law.censored) or values is None:
                continue
            edges = _edge_designs(runs.stability, group.edges, row.width)
            momentum = float(group.hyperparameters["momentum"])
            sign = 1.0 if result.metric == "accuracy" else -1.0
            design = _width_design(row.width, ladder, sign * values, law.log_at(row.width), momentum, edges)
            if design is not None:
                designs.append(design)
        yield from _group_rows(designs, law, group.parameterization, draws, result.replacement)


def _width_design(
    width: float, ladder: Ladder, values: Array, law_value: float, momentum: float, edges: dict[int, EdgeDesign]
) -> WidthDesign | None:
    # The simulation has no failures, so it leaves out cells in which a run failed.
    usable = ~ladder.failed.any(axis=0) & np.isfinite(values).all(axis=0)
    if int(usable.sum()) < 5 or values.shape[0] < 3:
        return None
    x, y = ladder.x[usable], values[:, usable]
    errors = y.std(axis=0, ddof=1) / math.sqrt(y.shape[0])
    # A quartic smoothing spline that stays about one standard error from the means follows the steep side of a skewed
    # peak. A quadratic through five cells does not. The spline also differs from the smoother of the tested estimator.
    curve = UnivariateSpline(x, y.mean(axis=0), w=1 / np.maximum(errors, 1e-9), k=4, s=x.size)
    fine = np.linspace(x[0], x[-1], 4001)
    return WidthDesign(
        width=width,
        x=x,
        curve=curve,
        top=float(fine[np.argmax(curve(fine))]),
        factor=((y - y.mean(axis=0)) / math.sqrt(y.shape[0] - 1)).T,
        law_value=law_value,
        seeds=y.shape[0],
        log_ratio=ladder.log_ratio,
        train_size=ladder.train_size,
        momentum=momentum,
        edges=edges,
    )


def _edge_designs(stability: pd.DataFrame, edges: tuple[EdgeAt, ...], width: float) -> dict[int, EdgeDesign]:
    designs = {}
    for edge in edges:
        if edge.width != width or edge.edge.label not in BRACKETED:
            continue
        runs = stability[(stability["width"] == width) & (stability["batch_size"] == edge.batch_size)]
        first = np.log(runs[runs["diverged_or_collapsed"]].groupby("seed")["learning_rate"].min())
        # Seeds that fail in the same cell can still differ by up to one cell.
        spread = max(float(first.std(ddof=1)), edge.edge.step / math.sqrt(12))
        rates = np.sort(runs["learning_rate"].unique()).astype(float)
        designs[int(edge.batch_size)] = EdgeDesign(rates, edge.edge.rate.value, spread, edge.edge.seeds)
    return designs


def _group_rows(designs: list[WidthDesign], law: PowerLaw, name: str, draws: int, replacement: bool) -> Iterator[Row]:
    generator = np.random.default_rng(8)
    seeds = designs[0].seeds if designs else 0
    slope = Tally("slope", f"{name}, lack of fit as estimated ({law.lack_of_fit:.2f})", seeds)
    tallies: dict[tuple[str, float], Tally] = {
        (quantity, design.width): Tally(quantity, f"{name}, width {design.width:g}", design.seeds)
        for quantity in ("optimum", "largest stable rate", "largest batch")
        for design in designs
    }
    for _ in range(draws):
        optima = []
        for design in designs:
            truth = design.law_value + law.lack_of_fit * float(generator.standard_normal())
            point = optimum(design.x, design.draw(generator, truth))
            optima.append(point)
            tallies["optimum", design.width].add(point.place.low, truth, point.place.high, censored=point.censored != 0)
            medians, edges = _draw_edges(generator, design, tallies["largest stable rate", design.width])
            if edges:
                _add_batch(tallies["largest batch", design.width], design, point, truth, medians, edges, replacement)
        fitted = noise_law([design.width for design in designs], optima)
        if fitted.status == "ok":
            slope.add(fitted.slope.low, law.slope.value, fitted.slope.high, censored=len(fitted.censored) > 0)
        else:
            slope.exclude()
    yield slope.row
    yield from (tally.row for tally in tallies.values() if tally.draws)


def _draw_edges(
    generator: np.random.Generator, design: WidthDesign, tally: Tally
) -> tuple[dict[int, float], dict[int, StabilityEdge]]:
    """Simulate an edge for each batch size. Return the true medians and the estimates of the bracketed edges."""
    medians, edges = {}, {}
    for batch, ladder in design.edges.items():
        # The truth can lie anywhere between two rates of the ladder.
        step = float(np.median(np.diff(np.log(ladder.rates))))
        median = ladder.median * math.exp(generator.uniform(-0.5, 0.5) * step)
        edge = stability_edge(ladder.rates, failures(generator, ladder.rates, median, ladder.spread, ladder.seeds))
        tally.seeds = ladder.seeds
        if edge.label not in BRACKETED:
            tally.exclude()
            continue
        tally.add_log(edge.rate, median)
        medians[batch], edges[batch] = median, edge
    return medians, edges


def _add_batch(
    tally: Tally,
    design: WidthDesign,
    point: Optimum,
    truth: float,
    medians: dict[int, float],
    edges: dict[int, StabilityEdge],
    replacement: bool,
) -> None:
    logs = tuple(math.log(median) for median in medians.values())
    exact = EdgeByBatch(tuple(map(float, medians)), logs, logs, logs)
    noise = [
        from_log(value - design.log_ratio, low - design.log_ratio, high - design.log_ratio, "examples", "g")
        for value, low, high in ((truth, truth, truth), (point.place.value, point.place.low, point.place.high))
    ]
    true_batch, estimate = (
        largest_batch(
            best_noise, edge, train_size=design.train_size, momentum=design.momentum, replacement=replacement
        ).batch_size
        for best_noise, edge in zip(noise, (exact, by_batch(edges)), strict=True)
    )
    if point.censored or not math.isfinite(true_batch.value) or not math.isfinite(estimate.value):
        tally.exclude()
    else:
        tally.add_log(estimate, true_batch.value)
