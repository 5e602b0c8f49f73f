"""What the fits of several widths share: the other widths say where an optimum lies, but not how high it is.

A prior from the other widths narrows the place of an optimum. It would also draw a peak that is sharper than theirs
down, and one that is rounder up, by more than the error of its height. Claims compare heights of widths, so a height
comes from its width alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from noisescale.laws.optima import Optimum, Peak
from noisescale.laws.results import MetricOptimum, WidthFit
from noisescale.laws.shape_priors import ShapePrior, prior_of_others

Priors = Mapping[tuple[float, str], ShapePrior]
T = TypeVar("T", Optimum, Peak)


def shape_priors(alone: Sequence[WidthFit], metrics: Iterable[str]) -> Priors:
    """Return the prior of each width's shape by each metric, from the other widths whose optimum lies inside.

    Args:
        alone: Fits of the widths without a prior from other widths.
        metrics: Names of the metrics.
    """
    priors = {}
    for metric in metrics:
        curves = [at_width.optima[metric].curve if metric in at_width.optima else None for at_width in alone]
        shapes = [curve.shape if curve is not None and curve.label == "interior" else None for curve in curves]
        for k, at_width in enumerate(alone):
            priors[at_width.width, metric] = prior_of_others(shapes, k)
    return priors


def with_heights_of(alone: WidthFit, fitted: WidthFit) -> WidthFit:
    """Return the fit of a width with the heights of its optima fitted alone.

    Args:
        alone: Fit of the width without a prior from other widths.
        fitted: Fit of the width with it.
    """
    optima = {metric: _with_height_of(alone.optima[metric], optimum) for metric, optimum in fitted.optima.items()}
    return replace(fitted, optima=optima)


def _with_height_of(alone: MetricOptimum, fitted: MetricOptimum) -> MetricOptimum:
    # At an end of the ladder, the height is that of its last cell, so it goes with the place.
    if alone.curve.censored != fitted.curve.censored or alone.late != fitted.late:
        return fitted
    peaks = tuple(_moved(*pair) for pair in zip(alone.curve.peaks, fitted.curve.peaks, strict=True))
    return replace(fitted, curve=_moved(alone.curve, replace(fitted.curve, peaks=peaks)), height=alone.height)


def _moved(alone: T, fitted: T) -> T:
    return replace(fitted, height=alone.height, height_by_seed=alone.height_by_seed, shape_error=alone.shape_error)
