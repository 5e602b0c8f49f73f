"""Coverage on a study's own design: its widths, ladders, seed counts, smoothed curves and seed noise."""

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
from noisescale.laws.cells import Ladder, build_ladder
from noisescale.laws.edges import edge_over_batch
from noisescale.laws.fitting import IN_LAW, NO_HELP, fit
from noisescale.laws.largest_batch import EdgeByBatch, largest_batch
from noisescale.laws.optimum import Optimum, optimum
from noisescale.laws.planted import failures
from noisescale.laws.power_laws import PowerLaw, power_law
from noisescale.laws.results import EdgeAt
from noisescale.laws.stability import StabilityEdge, stability_edge
from noisescale.laws.study_shape import Settings, StudyLike, axis_of, run_groups, series_of, whole_budget

Array = NDArray[np.float64]
BRACKETED = ("bracketed", "single_cell")


def law_of(widths: Sequence[float], found: Sequence[Optimum], bounded: bool = False) -> PowerLaw:
    """The noise law exactly as `fit` makes it from optima; the line with bounds where that is asked for.

    In the line with bounds, widths at which noise is not shown to help are inequalities.
    """
    labels = IN_LAW + NO_HELP if bounded else IN_LAW
    rows = [(width, one, one.label in IN_LAW) for width, one in zip(widths, found, strict=True) if one.label in labels]
    return power_law(
        np.array([width for width, _, _ in rows]),
        np.array([one.value if helps else one.high for _, one, helps in rows]),
        np.array([one.standard_error for _, one, _ in rows]),
        degrees=np.array([one.seeds - 1.0 for _, one, _ in rows]),
        censored=np.array([one.censored if helps else -1 for _, one, helps in rows], dtype=np.int64),
    )


def by_batch(found: dict[int, StabilityEdge]) -> EdgeByBatch:
    """Edges by batch as `fit` joins them."""
    joined = edge_over_batch(tuple(EdgeAt(1.0, float(batch), 0, edge) for batch, edge in found.items()), 1.0)
    assert joined is not None
    return joined


@dataclass(frozen=True)
class EdgeDesign:
    """The stability ladder of one batch: its rates, and the median and spread of the log threshold over seeds."""

    rates: Array
    median: float
    spread: float
    seeds: int


@dataclass(frozen=True)
class WidthDesign:
    """One width: its smoothed curve, the place of its top, a factor of its residual covariance, its edges by batch."""

    width: float
    x: Array
    curve: UnivariateSpline
    top: float
    factor: Array
    place: float
    seeds: int
    log_ratio: float
    train_size: int
    momentum: float
    edges: dict[int, EdgeDesign]

    def draw(self, generator: np.random.Generator, place: float) -> Array:
        """The metric of the study's number of seeds, the curve moved so that its top lies at `place`."""
        moved = self.x - (place - self.top)
        inside = np.clip(moved, self.x[0], self.x[-1])
        # Beyond its ladder the curve goes on straight.
        mean = self.curve(inside) + self.curve.derivative()(inside) * (moved - inside)
        return np.asarray(mean + generator.standard_normal((self.seeds, self.factor.shape[1])) @ self.factor.T)


def study_rows(study: StudyLike, draws: int) -> Iterator[Row]:
    """Plant the study's own curves with their tops on its law, and draw it again and again."""
    found, settings = fit(study), Settings.read(study.spec)
    for group, runs in zip(found.groups, run_groups(study.runs()), strict=True):
        series = group.series[group.primary]
        law = series.laws[found.metric].normalized_noise_scale
        if law.status != "ok":
            print(f"{group.parameterization}: the law is inconclusive, nothing can be planted", file=sys.stderr)
            continue
        table = next(part for value, part in series_of(runs.sweep, axis_of(runs.sweep)) if value == series.fixed_value)
        designs = []
        for row in series.widths:
            own = whole_budget(table[table["width"] == row.width], settings.budget)
            ladder = build_ladder(own, settings.select_on)
            values = ladder.values.get(f"{settings.select_on}_{found.metric}")
            if row.width not in (*law.widths, *law.censored) or values is None:
                continue
            edges = _edge_designs(runs.stability, group.edges, row.width)
            momentum = float(group.hyperparameters["momentum"])
            sign = 1.0 if found.metric == "accuracy" else -1.0
            design = _width_design(row.width, ladder, sign * values, law.log_at(row.width), momentum, edges)
            if design is not None:
                designs.append(design)
        yield from _group_rows(designs, law, group.parameterization, draws, found.replacement)


def _width_design(
    width: float, ladder: Ladder, values: Array, place: float, momentum: float, edges: dict[int, EdgeDesign]
) -> WidthDesign | None:
    keep = ladder.usable & ladder.late & np.isfinite(values).all(axis=0)
    if int(keep.sum()) < 5 or values.shape[0] < 3:
        return None
    x, y = ladder.x[keep], values[:, keep]
    errors = y.std(axis=0, ddof=1) / math.sqrt(y.shape[0])
    # A quartic smoothing spline that lies one standard error from the means: it follows the steep side of a skewed
    # peak, which the five-cell quadratic does not, and is another smoother than the estimator's own.
    curve = UnivariateSpline(x, y.mean(axis=0), w=1 / np.maximum(errors, 1e-9), k=4, s=x.size)
    fine = np.linspace(x[0], x[-1], 4001)
    return WidthDesign(
        width=width,
        x=x,
        curve=curve,
        top=float(fine[np.argmax(curve(fine))]),
        factor=((y - y.mean(axis=0)) / math.sqrt(y.shape[0] - 1)).T,
        place=place,
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
        own = stability[(stability["width"] == width) & (stability["batch_size"] == edge.batch_size)]
        first = np.log(own[own["failed_run"]].groupby("seed")["learning_rate"].min())
        # Seeds that fail in one cell still differ by up to the cell.
        spread = max(float(first.std(ddof=1)), edge.edge.step / math.sqrt(12))
        rates = np.sort(own["learning_rate"].unique()).astype(float)
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
        found = []
        for design in designs:
            truth = design.place + law.lack_of_fit * float(generator.standard_normal())
            one = optimum(design.x, design.draw(generator, truth))
            found.append(one)
            tallies["optimum", design.width].add(one.low, truth, one.high, censored=one.censored != 0)
            medians, drawn = _draw_edges(generator, design, tallies["largest stable rate", design.width])
            if drawn:
                _add_batch(tallies["largest batch", design.width], design, one, truth, medians, drawn, replacement)
        fitted = law_of([design.width for design in designs], found)
        if fitted.status == "ok":
            slope.add(fitted.slope.low, law.slope.value, fitted.slope.high, censored=len(fitted.censored) > 0)
        else:
            slope.leave_out()
    yield slope.row
    yield from (tally.row for tally in tallies.values() if tally.draws)


def _draw_edges(
    generator: np.random.Generator, design: WidthDesign, tally: Tally
) -> tuple[dict[int, float], dict[int, StabilityEdge]]:
    medians, drawn = {}, {}
    for batch, ladder in design.edges.items():
        # The truth may lie anywhere between two rates of the ladder.
        step = float(np.median(np.diff(np.log(ladder.rates))))
        median = ladder.median * math.exp(generator.uniform(-0.5, 0.5) * step)
        edge = stability_edge(ladder.rates, failures(generator, ladder.rates, median, ladder.spread, ladder.seeds))
        tally.seeds = ladder.seeds
        if edge.label not in BRACKETED:
            tally.leave_out()
            continue
        tally.add_log(edge.rate, median)
        medians[batch], drawn[batch] = median, edge
    return medians, drawn


def _add_batch(
    tally: Tally,
    design: WidthDesign,
    one: Optimum,
    truth: float,
    medians: dict[int, float],
    drawn: dict[int, StabilityEdge],
    replacement: bool,
) -> None:
    logs = tuple(math.log(median) for median in medians.values())
    exact = EdgeByBatch(tuple(map(float, medians)), logs, logs, logs)
    noise = [
        from_log(*(end - design.log_ratio for end in ends), "examples", "g")
        for ends in ((truth, truth, truth), (one.value, one.low, one.high))
    ]
    wanted, result = (
        largest_batch(
            place, edge, train_size=design.train_size, momentum=design.momentum, replacement=replacement
        ).batch_size
        for place, edge in zip(noise, (exact, by_batch(drawn)), strict=True)
    )
    if one.censored or not math.isfinite(wanted.value) or not math.isfinite(result.value):
        tally.leave_out()
    else:
        tally.add_log(result, wanted.value)
