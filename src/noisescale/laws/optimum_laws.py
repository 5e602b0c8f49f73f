"""The law of an optimum over width, as a record with its exponent, curvature, scatter and predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noisescale.estimate import Estimate, no_estimate
from noisescale.laws.place_laws import PlaceDensity, place_law, weighted_quantiles
from noisescale.laws.power_laws import PowerLaw

Array = NDArray[np.float64]

# The priors of exponent, curvature and scatter make up for the degrees of freedom that three widths lack.
MINIMUM_WIDTHS = 3
# A standard error of the log optimum above this, a factor of three, says little about a law.
_VAGUE = math.log(3.0)


def is_well_known(density: PlaceDensity) -> bool:
    """Return whether an optimum is known well enough to count for a law."""
    return math.sqrt(density.moments[1]) < _VAGUE


def optimum_law(
    widths: Sequence[float],
    densities: Sequence[PlaceDensity],
    *,
    bounds: Sequence[int],
    degrees: Sequence[float],
    quantity: str,
    unit: str,
    convention: str,
    left_out: Sequence[str] = (),
) -> PowerLaw:
    """Fit the law of an optimum over width.

    Args:
        widths: Widths.
        densities: Likelihood of the log optimum at each width.
        bounds: -1 if the optimum lies below the ladder of its width, 1 if above, 0 otherwise, for each width.
        degrees: Degrees of freedom of the seeds (seeds - 1), for each width.
        quantity: Name of the quantity.
        unit: Unit of the quantity.
        convention: Definition of the quantity.
        left_out: The reasons why the law does not use further widths, with their remedies. Default: no further widths.

    Returns:
        The law. It is inconclusive with fewer than three widths at which the optimum is well known.
    """
    moments = np.array([density.moments for density in densities]).reshape(-1, 2)
    errors = np.sqrt(moments[:, 1])
    free = np.array(bounds, dtype=np.int64) == 0
    log_widths = np.log(np.array(widths, dtype=np.float64))
    count = int((errors[free] < _VAGUE).sum())
    status = "ok" if count >= MINIMUM_WIDTHS else "inconclusive"
    advice = (
        f"{count} widths, and {int((~free).sum())} as inequalities"
        if status == "ok"
        else f"a law needs {MINIMUM_WIDTHS} widths with a well-determined optimum (got {count}): "
        + ("; ".join(left_out) or "add widths, seeds or rungs")
    )
    no_line = no_estimate("1", "no line")
    slope, log_center, curvature, lack, residual, posterior = no_line, no_line, no_line, math.nan, math.nan, None
    center = float(log_widths[free].mean()) if free.any() else math.nan
    if free.sum() >= 2 and np.ptp(log_widths[free]) > 0:
        posterior = place_law({"width": log_widths}, densities)
        # The exponent at the middle of the widths with a measured value.
        logs = {"width": center}
        slope = Estimate(*posterior.exponent(logs, "width"), "1", f"exponent of width in {quantity}")
        value, low, high = posterior.predicted(logs, new=False)
        log_center = Estimate(float(value), float(low), float(high), f"log {unit}", convention)
        bend, low, high, _ = posterior.parameter(2)
        curvature = Estimate(bend, low, high, "1", f"change of half the exponent of width in {quantity}, per nat")
        lack = float(weighted_quantiles(posterior.scatter, posterior.weights, (0.5,))[0])
        line = np.array([float(posterior.predicted({"width": x}, new=False)[0]) for x in log_widths[free]])
        rest = moments[free, 0] - line
        residual = math.sqrt(float(np.sum(rest**2)) / (rest.size - 2)) if rest.size > 2 else math.nan
    return PowerLaw(
        quantity=quantity,
        status=status,
        advice=advice,
        method="none" if posterior is None else "posterior",
        slope=slope,
        log_center=log_center,
        center=center,
        lack_of_fit=lack,
        residual=residual,
        widths=tuple(float(width) for width in np.array(widths)[free]),
        censored=tuple(float(width) for width in np.array(widths)[~free]),
        log_values=tuple(float(value) for value in moments[free, 0]),
        standard_errors=tuple(float(value) for value in errors[free]),
        degrees=tuple(float(value) for value in np.array(degrees)[free]),
        unit=unit,
        convention=convention,
        bounds=tuple(densities[k].quantile(0.975 if bounds[k] < 0 else 0.025) for k in range(len(bounds)) if bounds[k]),
        directions=tuple(int(bounds[k]) for k in range(len(bounds)) if bounds[k]),
        curvature=curvature,
        posterior=posterior,
    )
