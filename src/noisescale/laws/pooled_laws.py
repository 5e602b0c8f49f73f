"""The law that a recommendation follows: the ladders of all batch sizes, and what is known of exponents.

The ladders of several batch sizes share how the optimum changes with width. The best rate of an optimizer without a
noise law has the batch size as a second axis. The best noise scale is the same at every batch size, so the ladders of
all batch sizes, or of all rates, are measurements of one law.
"""

from __future__ import annotations

import math

import numpy as np

from noisescale.laws.edges import ONE_RATE
from noisescale.laws.optimum_laws import MINIMUM_WIDTHS, is_well_known
from noisescale.laws.place_laws import PlaceLaw, place_law
from noisescale.laws.results import Group, Series

# Priors of exponents, as (mean, standard deviation). With one rate for all layers, the best rate does not depend on
# the width of narrow networks and falls as 1/width in the limit, so the exponent lies between -1 and 0. In a table of
# widths 256 to 8192 it lies between -0.5 and -0.7 (Yang et al. 2021). The best rate of an adaptive optimizer rises with
# the batch size by an exponent between 0 and 1; its theory says 1/2 (Malladi et al. 2022).
# With one rate for all layers ḡ is the rate times the width, at a fixed batch size.
_WIDTH, _BATCH = (-0.5, 0.25), (0.5, 0.25)
_WIDTH_OF_NOISE = (_WIDTH[0] + 1, _WIDTH[1])


def pooled_law(series: Series, group: Group, metric: str) -> PlaceLaw | None:
    """Fit the law of a series' optimum over width to all ladders of its group.

    Args:
        series: Series of one batch size, or of one rate.
        group: Group of the series.
        metric: Metric of the optimum.

    Returns:
        The law of the series. None if the series' own law says as much, or if the optimum is well known at
        fewer than three widths.
    """
    points = [
        (row.width, other.fixed_value, optimum.curve.likelihood)
        for other in group.series
        if (other.axis, other.quantity) == (series.axis, series.quantity)
        for row in other.widths
        if (optimum := row.optima.get(metric)) is not None and optimum.in_law and optimum.curve.likelihood is not None
    ]
    ladders = {value for _, value, _ in points}
    known = {width for width, _, density in points if is_well_known(density)}
    if series.fixed_value not in ladders or len(known) < MINIMUM_WIDTHS:
        return None
    axes = {"width": np.log([width for width, _, _ in points])}
    densities, one_rate = [density for _, _, density in points], group.parameterization in ONE_RATE
    if series.quantity != "learning_rate":
        exponents = {"width": _WIDTH_OF_NOISE} if one_rate and series.quantity == "normalized_noise_scale" else {}
        return place_law(axes, densities, exponents=exponents) if exponents or len(ladders) > 1 else None
    axes["batch_size"] = np.log([value for _, value, _ in points])
    exponents = {"batch_size": _BATCH} | ({"width": _WIDTH} if one_rate else {})
    return place_law(axes, densities, exponents=exponents).at("batch_size", math.log(series.fixed_value))
