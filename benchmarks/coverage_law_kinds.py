"""Coverage of slopes, predictions and expected regret on the planted families of `coverage_law_worlds`."""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import coverage_law_baseline
import numpy as np
from coverage_baseline import run_baseline
from coverage_kinds import verdict
from coverage_law_worlds import LAW_DESIGNS, LAW_WORLDS, LawDesign, LawDraw, LawWorld, law_draws
from coverage_reference import well_specified
from coverage_table import Row
from coverage_worlds import CONSTANT, Array, Draw
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom

from noisescale.laws.decisions import outlook_of_law
from noisescale.laws.expected_metrics import prospect
from noisescale.laws.metric_laws import IN_LAW
from noisescale.laws.optima import Optimum
from noisescale.laws.optimum import optimum
from noisescale.laws.optimum_laws import optimum_law
from noisescale.laws.place_laws import PlaceLaw, place_law
from noisescale.laws.power_laws import PowerLaw
from noisescale.laws.shape_priors import prior_of_others

# Factors on the spread of the curvature's prior.
BEND_FACTORS = (1.0, 0.5, 2.0)
QUANTITIES = (
    "slope",
    "optimum at 2×",
    "optimum at 4×",
    "optimum at 2×, bend prior halved",
    "optimum at 4×, bend prior halved",
    "optimum at 2×, bend prior doubled",
    "optimum at 4×, bend prior doubled",
)
_COUNT = len(QUANTITIES)
# A law that bends over the trained widths must be covered this often four times beyond them.
LOWEST_WHERE_BENT, LEVEL = 0.92, 0.001
_QUANTILE = float(ndtri(0.975))


@dataclass(frozen=True)
class LawAnswer:
    """Answers for one draw.

    Args:
        truth: True value of each quantity, shape [quantities].
        intervals: Low and high end for each quantity; NaN if the law is inconclusive, shape [quantities, 2].
        reference: The same for the well-specified model; NaN without one.
        baseline: The same for version 0.1; NaN if not measured.
        baseline_slope: True exponent at the middle of the widths that version 0.1 used.
        regret: True regret of the decision at 2×, expected regret, its bound, and the true regret of version 0.1.
        effective: Effective number of draws of the law.
        fault: Exception or warning; empty if there was none.
    """

    truth: Array
    intervals: Array
    reference: Array
    baseline: Array
    baseline_slope: float
    regret: Array
    effective: float
    fault: str


@dataclass(frozen=True)
class LawAnswers:
    """Answers for the draws of a kind and a design.

    Args:
        kind: Key of `LAW_WORLDS`.
        design: Ladder and seeds.
        rows: One answer for each draw.
    """

    kind: str
    design: LawDesign
    rows: tuple[LawAnswer, ...]


def fitted_curves(draw: LawDraw) -> dict[float, Optimum]:
    """Fit the curve of each width as `fit` does: alone, and then with the shapes of the other widths."""
    tables = list(draw.tables.values())
    alone = [optimum(draw.x, y, failed=failed, constant=CONSTANT) for y, failed in tables]
    shapes = [point.shape if point.label == "interior" else None for point in alone]
    together = [
        optimum(draw.x, y, failed=failed, constant=CONSTANT, shapes=prior_of_others(shapes, k))
        for k, (y, failed) in enumerate(tables)
    ]
    return dict(zip(draw.tables, together, strict=True))


def fitted_law(curves: dict[float, Optimum]) -> PowerLaw:
    """Fit the law of the optima as `fit` does."""
    rows = {width: point for width, point in curves.items() if point.label in IN_LAW}
    return optimum_law(
        list(rows),
        [point.likelihood for point in rows.values() if point.likelihood is not None],
        bounds=[point.censored for point in rows.values()],
        degrees=[point.seeds - 1.0 for point in rows.values()],
        quantity="optimum",
        unit="1",
        convention="ḡ",
    )


def decision(law: PlaceLaw, curves: dict[float, Optimum], width: float) -> tuple[float, float, float]:
    """Return the log g that `recommend` decides for at a width, its expected regret and the bound of the regret."""
    rows = {trained: point for trained, point in curves.items() if point.label in IN_LAW}
    outlook = outlook_of_law(law, rows, width, 1.0)
    if outlook is None:
        return math.nan, math.nan, math.nan
    x = outlook.decision()
    regret = prospect(outlook, x).regret("accuracy", "1", "")
    return x, regret.value, regret.high


def measure_law_kind(kind: str, *, count: int, seed: int, baseline: Path | None = None) -> list[LawAnswers]:
    """Measure one kind.

    Args:
        kind: Key of `LAW_WORLDS`.
        count: Number of draws of each design.
        seed: Seed of the draws.
        baseline: Folder `src` of a checkout of version 0.1; None to leave it out.

    Returns:
        The answers for each design.
    """
    world = LAW_WORLDS[kind]
    unknown = np.full((len(LAW_DESIGNS), count, 10), math.nan)
    earlier = run_baseline(baseline, coverage_law_baseline.__file__, kind, count, seed) if baseline else unknown
    answers = []
    for design, before in zip(LAW_DESIGNS, earlier, strict=True):
        draws = law_draws(kind, design, count, seed)
        rows = tuple(_answer(world, design, draw, values) for draw, values in zip(draws, before, strict=True))
        answers.append(LawAnswers(kind, design, rows))
    return answers


def _answer(world: LawWorld, design: LawDesign, draw: LawDraw, before: Array) -> LawAnswer:
    """Return the answers for one draw.

    Args:
        world: World of the draw.
        design: Design of the draw.
        draw: The draw.
        before: Answers of version 0.1: the middle of its law, then value, low and high end of each quantity.
    """
    intervals, regret, fault = np.full((_COUNT, 2), math.nan), np.full(4, math.nan), ""
    center, effective, targets = float(np.mean(np.log(world.widths))), math.nan, world.targets
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            curves = fitted_curves(draw)
            law = fitted_law(curves)
            if law.status == "ok" and law.posterior is not None:
                center, effective = law.center, law.posterior.effective
                intervals = np.array([law.slope.interval, *_predictions(law, curves, targets)])
                x, *expected = decision(law.posterior, curves, targets[0])
                regret[:3] = draw.regret(targets[0], x), *expected
        except Exception as error:
            # A crash of one draw must not end a long run. It counts as no answer, and the table shows it.
            print(f"{world}, {design}: {error!r}", file=sys.stderr)
            fault = type(error).__name__
    fault = fault or "; ".join(f"{warning.category.__name__}: {warning.message}" for warning in caught)
    optima = [draw.optima[width] for width in targets]
    if math.isfinite(before[4]):
        regret[3] = draw.regret(targets[0], before[4])
    baseline = np.full((_COUNT, 2), math.nan)
    baseline[:3] = before[1:].reshape(3, 3)[:, 1:]
    return LawAnswer(
        truth=np.array([world.exponent(center), *(optima * len(BEND_FACTORS))]),
        intervals=intervals,
        reference=_well_specified(world, design, draw, center),
        baseline=baseline,
        baseline_slope=world.exponent(before[0]) if math.isfinite(before[0]) else math.nan,
        regret=regret,
        effective=effective,
        fault=fault,
    )


def _predictions(law: PowerLaw, curves: dict[float, Optimum], targets: Sequence[float]) -> list[Array]:
    """Return the intervals of the log optimum at the targets, by each prior of the curvature."""
    rows = {width: point for width, point in curves.items() if point.label in IN_LAW}
    densities = [point.likelihood for point in rows.values() if point.likelihood is not None]
    axes = {"width": np.log(list(rows))}
    assert law.posterior is not None
    laws = [law.posterior, *(place_law(axes, densities, bend_factor=factor) for factor in BEND_FACTORS[1:])]
    return [fitted.predicted({"width": math.log(width)})[1:] for fitted in laws for width in targets]


def _well_specified(world: LawWorld, design: LawDesign, draw: LawDraw, center: float) -> Array:
    """Return the intervals of a model that knows the world.

    The place at each width has the mean and the error that a model with the curve's formula gives. The law is weighted
    least squares with the true terms and the true scatter.
    """
    intervals = np.full((_COUNT, 2), math.nan)
    if not world.curve.well_specified:
        return intervals
    ends = []
    for width, (y, failed) in draw.tables.items():
        low, high, *_ = well_specified(draw.curves[width], Draw(draw.x, y, failed, 0.0, 0.0, 0))
        ends.append((low, high))
    places, errors = np.mean(ends, axis=1), np.diff(ends, axis=1)[:, 0] / (2 * _QUANTILE)
    terms = np.array([world.row(math.log(width)) for width in draw.tables])
    weights = 1 / (errors**2 + world.scatter**2)
    covariance = np.linalg.inv(terms.T @ (weights[:, None] * terms))
    coefficients = covariance @ (terms.T @ (weights * places))
    rows = [(world.slope_row(center), 0.0), *((world.row(math.log(w)), world.scatter) for w in world.targets)]
    for k, (row, scatter) in enumerate(rows):
        half = _QUANTILE * math.sqrt(float(row @ covariance @ row) + scatter**2)
        intervals[k] = row @ coefficients - half, row @ coefficients + half
    intervals[3:] = np.tile(intervals[1:3], (2, 1))
    return intervals


def law_design_rows(answers: Sequence[LawAnswers]) -> list[Row]:
    """Return the lines of the table for each design."""
    rows = []
    for answer in answers:
        case = f"{answer.kind}; ladder {answer.design.ladder}"
        rows += [replace(row, seeds=answer.design.seeds) for row in _rows(case, answer.rows)]
    return rows


def law_kind_rows(answers: Sequence[LawAnswers]) -> list[Row]:
    """Return the lines of the table for a kind, pooled over its designs, with the verdict in the note."""
    pooled = [row for answer in answers for row in answer.rows]
    kind, rows = answers[0].kind, []
    faults = Counter(row.fault for row in pooled if row.fault)
    world = LAW_WORLDS[kind]
    for row in _rows(kind, pooled):
        notes = [row.note, *_verdicts(world, row)]
        if row.quantity == "slope":
            effective = [answer.effective for answer in pooled if math.isfinite(answer.effective)]
            notes.append(f"effective draws {np.quantile(effective, 0.05):.0f} (5 %)" if effective else "")
            notes += [f"{times} × {name}" for name, times in faults.items()]
        rows.append(replace(row, note="; ".join(filter(None, notes))))
    return rows


def _verdicts(world: LawWorld, row: Row) -> list[str]:
    if not world.knowable and row.quantity != "slope":
        return ["not knowable"]
    if "prior" in row.quantity:
        return []
    refused = round(row.excluded * row.draws)
    covered = round(row.coverage * row.draws)
    if row.quantity == "optimum at 4×" and world.bends:
        low = binom.cdf(covered + refused, row.draws, LOWEST_WHERE_BENT) < LEVEL
        return ["**neither covered nor refused**"] if low else []
    if row.quantity == "optimum at 4×" and binom.sf(refused - 1, row.draws, 0.1) < LEVEL:
        return ["**refused too often**"]
    return [verdict(covered, row.draws)]


def _rows(case: str, answers: Sequence[LawAnswer]) -> list[Row]:
    truth = np.array([answer.truth for answer in answers])
    intervals = np.array([answer.intervals for answer in answers])
    reference = np.array([answer.reference for answer in answers])
    baseline = np.array([answer.baseline for answer in answers])
    old_truth = truth.copy()
    old_truth[:, 0] = [answer.baseline_slope for answer in answers]
    rows = []
    for k, quantity in enumerate(QUANTITIES):
        open_ = np.isinf(intervals[:, k]).any(axis=1)
        covered = _contains(intervals[:, k], truth[:, k]) & ~(open_ & np.isfinite(reference[:, k]).all(axis=1))
        missing = np.isnan(intervals[:, k]).any(axis=1)
        row = Row(
            quantity,
            case,
            0,
            len(answers),
            round(float(covered.mean()), 4),
            round(float(open_.mean()), 4),
            math.nan,
            round(float(missing.mean()), 4),
            _half_width(intervals[:, k]),
            "",
        )
        if np.isfinite(reference[:, k]).any():
            row.reference_coverage = round(float(_contains(reference[:, k], truth[:, k]).mean()), 4)
            row.reference_half_width = _half_width(reference[:, k])
        if np.isfinite(baseline[:, k]).any():
            row.baseline_coverage = round(float(_contains(baseline[:, k], old_truth[:, k]).mean()), 4)
            row.baseline_half_width = _half_width(baseline[:, k])
            row.baseline_unbounded = round(float((~np.isfinite(baseline[:, k])).any(axis=1).mean()), 4)
        rows.append(row)
    return [*rows, _regret_row(case, np.array([answer.regret for answer in answers]))]


def _regret_row(case: str, regret: Array) -> Row:
    """Return the line of the regret at 2×: the coverage is the share of draws whose regret is within its bound."""
    measured = np.isfinite(regret[:, 0])
    true, expected, bound, earlier = regret.T
    covered = round(float((true <= bound)[measured].mean()), 4) if measured.any() else math.nan
    note = ""
    if measured.any():
        note = f"{_points(true)}, expected {100 * np.mean(expected[measured]):.2f} on average"
    if np.isfinite(earlier).any():
        note += f"; version 0.1 {_points(earlier)}"
    return Row(
        "bound of the regret at 2×",
        case,
        0,
        regret.shape[0],
        covered,
        math.nan,
        math.nan,
        round(float((~measured).mean()), 4),
        math.nan,
        note,
    )


def _points(regret: Array) -> str:
    """Describe regrets in points of accuracy."""
    known = 100 * regret[np.isfinite(regret)]
    return f"mean {known.mean():.2f}, median {np.median(known):.2f}, 90th percentile {np.quantile(known, 0.9):.2f}"


def _contains(intervals: Array, truth: Array) -> NDArray[np.bool_]:
    return np.asarray((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))


def _half_width(intervals: Array) -> float:
    half = np.diff(intervals, axis=1)[:, 0] / 2
    return float(f"{np.median(half[np.isfinite(half)]):.3g}") if np.isfinite(half).any() else math.nan
