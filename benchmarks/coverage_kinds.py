"""Coverage and half-width of the optimum's place and height on the kinds of `coverage_worlds`."""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from coverage_baseline import baseline_intervals
from coverage_reference import well_specified
from coverage_table import Row
from coverage_worlds import CONSTANT, DESIGNS, FIFTHS, WORLDS, Array, Design, Draw, draws
from numpy.typing import NDArray
from scipy.stats import binom

from noisescale.laws.optimum import optimum

# A kind falls short if its coverage is significantly outside this range.
LOWEST, HIGHEST, LEVEL = 0.94, 0.985, 0.001
QUANTITIES = ("optimum", "peak height")


@dataclass(frozen=True)
class Answers:
    """Intervals for the draws of a kind and a design.

    Args:
        kind: Key of `WORLDS`.
        design: Ladder, noise and seeds.
        truth: Place and height of each draw, shape [draws, 2].
        fifth: Fifth of the interval between two cells that contains the place, shape [draws].
        intervals: Low and high ends of the place and of the height, shape [draws, 2, 2].
        reference: The same for the well-specified model; NaN without one.
        baseline: The same for version 0.1; None if not measured.
        seen: Draws in which a run failed, shape [draws].
        faults: Number of each exception and warning.
    """

    kind: str
    design: Design
    truth: Array
    fifth: NDArray[np.intp]
    intervals: Array
    reference: Array
    baseline: Array | None
    seen: NDArray[np.bool_]
    faults: Counter[str]

    def covered(self, quantity: int) -> NDArray[np.bool_]:
        """Return the draws whose interval contains the truth.

        An open interval counts as a miss where the interval of the well-specified model is bounded, and no interval
        counts as a miss everywhere.
        """
        missing = np.isinf(self.intervals[:, quantity]).any(axis=1)
        missing &= np.isfinite(self.reference[:, quantity]).all(axis=1)
        return _contains(self.intervals, self.truth, quantity) & ~missing


def measure_kind(kind: str, *, count: int, seed: int, baseline: Path | None = None) -> list[Answers]:
    """Measure one kind.

    Args:
        kind: Key of `WORLDS`.
        count: Number of draws of each design.
        seed: Seed of the draws.
        baseline: Folder `src` of a checkout of version 0.1; None to leave it out.

    Returns:
        The answers for each design.
    """
    earlier = baseline_intervals(baseline, kind, count, seed) if baseline else None
    answers = []
    for number, design in enumerate(DESIGNS):
        sample, faults = draws(kind, design, count, seed), Counter[str]()
        intervals = [_intervals(draw, faults, f"{kind}, {design}, draw {k}") for k, draw in enumerate(sample)]
        world, reference = WORLDS[kind], np.full((count, 4), math.nan)
        if world.well_specified:
            reference = np.array([well_specified(world, draw) for draw in sample])
        answers.append(
            Answers(
                kind,
                design,
                np.array([(draw.place, draw.height) for draw in sample]),
                np.array([draw.fifth for draw in sample]),
                np.array(intervals).reshape(count, 2, 2),
                reference.reshape(count, 2, 2),
                earlier[number].reshape(count, 2, 2) if earlier else None,
                np.array([draw.failed.any() for draw in sample]),
                faults,
            )
        )
    return answers


def _intervals(draw: Draw, faults: Counter[str], where: str) -> tuple[float, float, float, float]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            point = optimum(draw.x, draw.y, failed=draw.failed, constant=CONSTANT)
        except Exception as error:
            # A crash of one draw must not end a run of an hour. It counts as no answer, and the table shows it.
            print(f"{where}: {error!r}", file=sys.stderr)
            faults[type(error).__name__] += 1
            return math.nan, math.nan, math.nan, math.nan
    faults.update(f"{warning.category.__name__}: {warning.message}" for warning in caught)
    return point.place.low, point.place.high, point.height.low, point.height.high


def design_rows(answers: Sequence[Answers]) -> list[Row]:
    """Return the lines of the table for each design."""
    rows = []
    for answer in answers:
        case = f"{answer.kind}; ladder {answer.design.ladder}; noise {100 * answer.design.noise:g} points"
        for number, quantity in enumerate(QUANTITIES):
            rows.append(_row(quantity, case, answer.design.seeds, [answer], number))
    return rows


def kind_rows(answers: Sequence[Answers]) -> list[Row]:
    """Return the lines of the table for a kind, pooled over its designs, with the verdict in the note."""
    rows = []
    for number, quantity in enumerate(QUANTITIES):
        covered = np.concatenate([answer.covered(number) for answer in answers])
        fifth = np.concatenate([answer.fifth for answer in answers])
        by_fifth = [float(covered[fifth == part].mean()) for part in range(FIFTHS) if (fifth == part).any()]
        note = [f"worst fifth {min(by_fifth):.3f}", verdict(int(covered.sum()), covered.size)]
        seen = np.concatenate([answer.seen for answer in answers])
        if 0 < seen.sum() < seen.size:
            # No run shows a failure rate that all runs have escaped.
            note.append(f"{covered[seen].mean():.3f} of the {seen.mean():.0%} of draws in which a run fails")
        faults = sum((answer.faults for answer in answers), Counter[str]())
        note += [f"{times} × {name}" for name, times in faults.items()]
        rows.append(_row(quantity, answers[0].kind, 0, answers, number, "; ".join(filter(None, note))))
    return rows


def verdict(covered: int, count: int) -> str:
    """Return "too low" or "too high" if the coverage is significantly outside its range (exact binomial tests)."""
    if binom.cdf(covered, count, LOWEST) < LEVEL:
        return "**too low**"
    return "**too high**" if binom.sf(covered - 1, count, HIGHEST) < LEVEL else ""


def _row(quantity: str, case: str, seeds: int, answers: Sequence[Answers], number: int, note: str = "") -> Row:
    covered = np.concatenate([answer.covered(number) for answer in answers])
    intervals = np.concatenate([answer.intervals for answer in answers])
    reference = np.concatenate([answer.reference for answer in answers])
    truth = np.concatenate([answer.truth for answer in answers])
    row = Row(
        quantity,
        case,
        seeds,
        covered.size,
        round(float(covered.mean()), 4),
        round(float(np.isinf(intervals[:, number]).any(axis=1).mean()), 4),
        math.nan,
        round(float(np.isnan(intervals[:, number]).any(axis=1).mean()), 4),
        _half_width(intervals, number),
        note,
    )
    if np.isfinite(reference).any():
        row.reference_coverage = round(float(_contains(reference, truth, number).mean()), 4)
        row.reference_half_width = _half_width(reference, number)
    earlier = [answer.baseline for answer in answers if answer.baseline is not None]
    if earlier:
        baseline = np.concatenate(earlier)
        row.baseline_coverage = round(float(_contains(baseline, truth, number).mean()), 4)
        row.baseline_half_width = _half_width(baseline, number)
        row.baseline_unbounded = round(float((~np.isfinite(baseline[:, number])).any(axis=1).mean()), 4)
    return row


def _contains(intervals: Array, truth: Array, quantity: int) -> NDArray[np.bool_]:
    low, high = intervals[:, quantity].T
    return np.asarray((low <= truth[:, quantity]) & (truth[:, quantity] <= high))


def _half_width(intervals: Array, quantity: int) -> float:
    low, high = intervals[:, quantity].T
    bounded = np.isfinite(low) & np.isfinite(high)
    return float(f"{np.median((high - low)[bounded]) / 2:.3g}") if bounded.any() else math.nan
