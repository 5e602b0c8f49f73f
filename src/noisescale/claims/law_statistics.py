"""Power laws as statistics and as curves of a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from noisescale.claims.criterion import Criterion
from noisescale.claims.panel import Curve
from noisescale.claims.statistic import Statistic
from noisescale.estimate import Estimate, two_sided
from noisescale.laws import Group, MetricOptimum, PowerLaw, Series, StudyLike, fit, power_law


def fit_first_group(study: StudyLike) -> Group:
    """Fit a study and return its first group.

    Args:
        study: A stored or planted study.
    """
    return fit(study).groups[0]


def fit_primary_series(study: StudyLike) -> Series:
    """Fit a study and return the primary series of its first group.

    Args:
        study: A stored or planted study.
    """
    return fit_first_group(study).primary_series


def seeds_of(series: Series) -> int:
    """Return the largest number of seeds at any width.

    Args:
        series: The fits of the ladders of several widths.
    """
    return max(len(width.seeds) for width in series.widths)


def slope_statistic(name: str, law: PowerLaw, seeds: int, criterion: Criterion) -> Statistic:
    """Make a statistic of the slope of a power law. It has no interval if the law is inconclusive.

    Args:
        name: Name of the statistic.
        law: The power law.
        seeds: Number of seeds.
        criterion: The criterion.
    """
    if law.status != "ok":
        return Statistic(name, Estimate(math.nan, -math.inf, math.inf, "1", law.advice), (), seeds, criterion)
    errors, lasting = law.slope_errors(), law.slope_lack_of_fit()
    if not errors:  # the interval comes from a likelihood and is calibrated to the t distribution of the line
        degrees = len(law.widths) - 2.0
        scatter = (((law.slope.high - law.slope.low) / 2 / two_sided(degrees), degrees),)
        return Statistic(name, law.slope, (), seeds, criterion, scatter, (lasting,))
    # The scatter of the widths contains the noise of the seeds, which more seeds reduce.
    total = lasting if law.method == "posterior" else 0.0
    return Statistic(name, law.slope, errors[:1], seeds, criterion, errors[1:], (total, *(lasting for _ in errors[1:])))


def law_at_optima(
    axis: Sequence[float],
    optima: Sequence[MetricOptimum],
    values: Sequence[Estimate],
    quantity: str,
    axis_name: str,
) -> PowerLaw:
    """Fit a power law to a quantity at the optima, over an axis other than width.

    Args:
        axis: Position of each optimum on the axis, positive, length M.
        optima: The optima, length M. Optima outside the ladder, from cells that have not converged, or unfit for a
            law are left out.
        values: The quantity at each optimum, length M.
        quantity: Name of the quantity.
        axis_name: Name of the axis.
    """
    used = [
        index for index, optimum in enumerate(optima) if optimum.in_law and optimum.late and not optimum.curve.censored
    ]
    return power_law(
        np.array([axis[index] for index in used]),
        np.array([math.log(values[index].value) for index in used]),
        np.array([optima[index].curve.standard_error for index in used]),
        degrees=np.array([optima[index].curve.seeds - 1.0 for index in used]),
        quantity=quantity,
        axis=axis_name,
    )


def law_points(label: str, law: PowerLaw) -> Curve:
    """Draw the points of a law with ± 2 standard errors.

    Args:
        label: Text in the legend.
        law: The power law.
    """
    x, y, error = (np.array(values) for values in (law.widths, law.log_values, law.standard_errors))
    return Curve(label, x, np.exp(y), np.exp(y - 2 * error), np.exp(y + 2 * error))


def line_through(label: str, law: PowerLaw, slope: float, kind: Literal["theory", "reference"] = "theory") -> Curve:
    """Draw a line of a given slope through the middle of a law's points.

    Args:
        label: Text in the legend.
        law: The power law.
        slope: Slope on logarithmic axes.
        kind: "theory" if a theory predicts the slope, "reference" if the line only guides the eye.
    """
    x = np.sort(law.widths)
    if not len(x):
        return Curve(label, x, x, kind=kind)
    middle = float(np.mean(law.log_values))
    return Curve(label, x, np.exp(middle + slope * (np.log(x) - np.log(x).mean())), kind=kind)
