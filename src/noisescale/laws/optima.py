"""The records of a curve's optimum: its place, its height, and how far to trust them."""

from __future__ import annotations

import math

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from noisescale.estimate import Estimate
from noisescale.laws.curve_draws import CurveDraws
from noisescale.laws.place_laws import PlaceDensity
from noisescale.laws.shape_priors import ShapeMoments

MINIMUM_SEEDS = 3
# A height and a place are the least that a curve has.
MINIMUM_CELLS = 3

OPTIMUM_ADVICE = {
    "interior": "the optimum lies inside the ladder",
    "censored_low": "the optimum lies below the lowest usable cell: extend the ladder downward, or train longer",
    "censored_high": "the optimum lies above the highest usable cell: extend the ladder upward, or train longer",
    "not_identified_low": "the lower end is not identified: extend the ladder downward or add seeds",
    "not_identified_high": "the upper end is not identified: extend the ladder upward or add seeds",
    "flat": "no side is identified: the metric does not change by more than its noise; add seeds",
    "two_peaks": "two separated peaks of equal height: both are reported, and neither is taken as the optimum",
    "unresolved": "two separated peaks, and the seeds do not show which is higher: the interval spans both; add seeds",
    "too_few_cells": f"fewer than {MINIMUM_CELLS} usable cells: refine or extend the ladder",
    "too_few_seeds": f"fewer than {MINIMUM_SEEDS} seeds: no interval over seeds exists",
}


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Peak:
    """One maximum of a curve.

    Args:
        label: Key of `OPTIMUM_ADVICE`.
        place: Position x of the maximum (the end of the ladder if censored) with its 95 % interval. An end of the
            interval is infinite if it lies beyond the ladder.
        standard_error: Standard deviation of x in the posterior.
        height: Mean metric at the maximum. Its interval holds the seeds' noise and the uncertainty about the shape.
        height_by_seed: Metric of each seed at the maximum: its deviations from the cells' means, weighted as the height
            weighs them.
        shape_error: Standard error of the height from the uncertainty about the shape alone, which more seeds do not
            remove.
        likelihood: Likelihood of each place x. It is left out of the JSON form.
        shape: What the curve says about its shape. It is left out of the JSON form.
        draws: Draws of the curve. They are left out of the JSON form.
    """

    label: str
    place: Estimate
    standard_error: float
    height: Estimate
    height_by_seed: tuple[float, ...]
    shape_error: float
    likelihood: PlaceDensity | None = Field(exclude=True, repr=False)
    shape: tuple[ShapeMoments, ...] | None = Field(exclude=True, repr=False)
    draws: CurveDraws | None = Field(exclude=True, repr=False)


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Optimum:
    """The optimum of one curve, with diagnostics.

    Args:
        label: A key of `OPTIMUM_ADVICE`.
        advice: Meaning of the label, and the remedy.
        place: Position x of the optimum (the higher peak, if there are two) with its 95 % interval; NaN without a fit.
            An end of the interval is infinite if it lies beyond the ladder. If there are two peaks and neither is
            significantly higher, the interval spans both.
        standard_error: Standard deviation of x in the posterior.
        height: Mean metric at the optimum. Its interval holds the seeds' noise and the uncertainty about the shape.
        height_by_seed: Metric of each seed at the optimum.
        shape_error: Standard error of the height from the uncertainty about the shape alone.
        peaks: The higher peak, then the second peak if there is one; empty without a fit.
        argmax: Position x of the cell with the best mean (a diagnostic).
        indistinguishable: Positions x of the cells that a paired t test does not distinguish from the best cell (a
            diagnostic, not an interval).
        seeds: Number of seeds.
        cells: Number of usable cells.
        span: Span of the metric: the distance from the constant predictor to the best cell.
        likelihood: Likelihood of each place x, of both peaks if there are two; None without a fit. It is left out of
            the JSON form.
        shape: What the curve says about its shape; None without a fit. It is left out of the JSON form.
        draws: Draws of the curve; None without a fit. They are left out of the JSON form.
    """

    label: str
    advice: str
    place: Estimate
    standard_error: float
    height: Estimate
    height_by_seed: tuple[float, ...]
    shape_error: float
    peaks: tuple[Peak, ...]
    argmax: float
    indistinguishable: tuple[float, ...]
    seeds: int
    cells: int
    span: float
    likelihood: PlaceDensity | None = Field(exclude=True, repr=False)
    shape: tuple[ShapeMoments, ...] | None = Field(exclude=True, repr=False)
    draws: CurveDraws | None = Field(exclude=True, repr=False)

    @property
    def censored(self) -> int:
        """-1 if the optimum is at or below the low end of the ladder, 1 if at or above the high end, 0 otherwise."""
        return {"censored_low": -1, "censored_high": 1}.get(self.label, 0)

    @property
    def has_value(self) -> bool:
        """Return whether the fit gave a position (possibly an end of the ladder)."""
        return math.isfinite(self.place.value)
