"""The ratio of the normalized noise scale of a model's read-out to the noise scale."""

from __future__ import annotations

import math
from functools import cache

from noisescale.families import Factory
from noisescale.parameterizations import (
    build_table,
    describe_parameters,
    initial_variances,
    layer_rows,
    multipliers_of_text,
    multiply_rates,
    reference_width,
)
from noisescale.seeding import seeded


@cache
def read_out_ratio(
    factory: Factory,
    parameterization: str,
    widths: tuple[int, int | None],
    init_scale: float,
    query_rows: tuple[str, ...],
    rate_multipliers: str,
    shape: tuple[int, ...],
    classes: int,
) -> float:
    """Return the ratio ḡ/g of the read-out; NaN if no fan-in grows with width.

    Args:
        factory: A function `(width, input_shape, num_classes) -> nn.Module`.
        parameterization: Name of the parameterization.
        widths: Width of the model and the base width.
        init_scale: Initial variance σ0².
        query_rows: Rows of weights that compute the queries of attention.
        rate_multipliers: Factors of the rate by pattern of parameter names, as text.
        shape: Shape of one example.
        classes: Number of outputs.
    """
    width, base_width = widths
    with seeded(0):
        module, reference = factory(width, shape, classes), factory(reference_width(width), shape, classes)
        base = None if base_width is None else factory(base_width, shape, classes)
    described = describe_parameters(module, reference, base, query_rows)
    table = build_table(parameterization, described, init_scale)
    table = multiply_rates(table, multipliers_of_text(rate_multipliers))
    variances = initial_variances(table, factory, width, shape, classes)
    ratios = [row["normalized_noise_scale"] for row in layer_rows(table, variances, 1.0) if row["is_reference"]]
    return ratios[0] if ratios else math.nan
