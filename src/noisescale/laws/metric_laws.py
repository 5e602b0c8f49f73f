"""The laws of a metric over the widths of a series: which optima a law uses, and the laws through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from noisescale.estimate import Estimate
from noisescale.laws.largest_batch import CONVENTION
from noisescale.laws.metric_scale import fitted_unit
from noisescale.laws.noise_units import NORMALIZED, NoiseUnits
from noisescale.laws.optimum_laws import optimum_law
from noisescale.laws.power_laws import PowerLaw, power_law
from noisescale.laws.quantities import QUANTITIES
from noisescale.laws.results import Excluded, MetricLaws, MetricOptimum, WidthFit
from noisescale.laws.trends import Trend, trend
from noisescale.noise_laws import NOISE_SCALE, TEMPERATURE

# Labels of the optima that a law uses. A flat curve or a curve with two peaks has no single optimum. An optimum from
# too few cells or seeds has no interval.
IN_LAW = ("interior", "not_identified_high", "censored_high", "unresolved")
# Labels of optima that may lie below the ladder. At such a width the lowest noise scale may be as good as the best, so
# the width carries no information about the exponent. The law uses only widths at which noise helps. A second fit of
# the law adds the other widths as bounds.
NO_BENEFIT = ("not_identified_low", "censored_low")
NO_BENEFIT_REASON = (
    "the lowest noise scale on the grid is statistically as good as the best, so the optimum may lie below the grid"
)


def metric_laws(
    metric: str,
    widths: tuple[WidthFit, ...],
    quantity: str,
    axis: str,
    replacement: bool,
    units_at: dict[float, NoiseUnits],
) -> MetricLaws:
    """Fit the laws of a metric over the widths of a series.

    Args:
        metric: Name of the metric.
        widths: The fits of the widths.
        quantity: Quantity of the ladders.
        axis: Hyperparameter that the ladders vary.
        replacement: Whether batches are drawn with replacement.
        units_at: Conversion of the ladders' quantity at each width.

    Returns:
        The laws, with the widths that they leave out.
    """
    rows = [(at_width, at_width.optima[metric]) for at_width in widths if metric in at_width.optima]
    used = [(at_width, at_optimum) for at_width, at_optimum in rows if at_optimum.in_law]
    bounded = [
        (at_width, at_optimum)
        for at_width, at_optimum in rows
        if at_optimum.in_law or at_optimum.reason == NO_BENEFIT_REASON
    ]
    has_noise = quantity != "learning_rate"
    noise = f"optimum {QUANTITIES[quantity if has_noise else 'noise_scale'].words}"
    with_noise, bounded = (used, bounded) if has_noise else ([], [])
    is_normalized = quantity == "normalized_noise_scale"
    measure = ("1", NORMALIZED) if is_normalized else (NOISE_SCALE.unit, NOISE_SCALE.formula(replacement))
    excluded = tuple(
        Excluded(at_width.width, at_optimum.reason) for at_width, at_optimum in rows if not at_optimum.in_law
    )
    noise_law = _law(with_noise, noise, *measure, excluded)
    with_bounds = noise_law if len(bounded) == len(with_noise) else _law(bounded, noise, *measure, excluded)
    batches = [
        (at_width, at_optimum, at_width.largest_batch[metric])
        for at_width, at_optimum in used
        if at_width.largest_batch[metric].label == "solved"
    ]
    return MetricLaws(
        metric=metric,
        normalized_noise_scale=noise_law,
        with_bounds=with_bounds,
        temperature=_law(
            with_noise,
            "optimum temperature",
            TEMPERATURE.unit,
            TEMPERATURE.formula(replacement),
            excluded,
            lambda width, x: units_at[width].log_temperature(x),
        ),
        learning_rate=(
            _law(
                used,
                "optimum learning rate",
                "1",
                "ε, at the fixed batch",
                excluded,
                lambda width, x: math.log(units_at[width].rate(x)),
            )
            if axis == "learning_rate"
            else None
        ),
        largest_batch=power_law(
            np.array([at_width.width for at_width, _, _ in batches]),
            np.array([math.log(batch.batch_size.value) for _, _, batch in batches]),
            np.array(
                [_log_error(batch.batch_size, at_optimum.curve.standard_error) for _, at_optimum, batch in batches]
            ),
            degrees=np.array([at_optimum.curve.seeds - 1.0 for _, at_optimum, _ in batches]),
            quantity="largest batch",
            unit="examples",
            convention=CONVENTION,
        ),
        height=_height_trend(rows),
        excluded=excluded,
    )


def _law(
    rows: list[tuple[WidthFit, MetricOptimum]],
    quantity: str,
    unit: str,
    convention: str,
    excluded: Sequence[Excluded],
    convert: Callable[[float, float], float] | None = None,
) -> PowerLaw:
    """Fit the law of the optima, in the logarithm of the ladders' quantity or in what `convert` makes of it."""
    densities, bounds = [], []
    for at_width, at_optimum in rows:
        density = at_optimum.curve.likelihood
        assert density is not None
        densities.append(density if convert is None else density.mapped(partial(convert, at_width.width)))
        low = at_optimum.curve.label in NO_BENEFIT
        bounds.append(-1 if low else at_optimum.curve.censored)
    return optimum_law(
        [at_width.width for at_width, _ in rows],
        densities,
        bounds=bounds,
        degrees=[at_optimum.curve.seeds - 1.0 for _, at_optimum in rows],
        quantity=quantity,
        unit=unit,
        convention=convention,
        left_out=_reasons(excluded),
    )


def _reasons(excluded: Sequence[Excluded]) -> list[str]:
    """Return each reason with the widths that a law leaves out for it."""
    widths: dict[str, list[str]] = {}
    for row in excluded:
        widths.setdefault(row.reason, []).append(f"{row.width:g}")
    return [f"at width{'s' * (len(names) > 1)} {', '.join(names)}, {reason}" for reason, names in widths.items()]


def _log_error(estimate: Estimate, default: float) -> float:
    """Return the standard error of the logarithm, or `default` if an end of the interval is infinite."""
    error = estimate.log_error
    return error if math.isfinite(error) else default


def _height_trend(rows: list[tuple[WidthFit, MetricOptimum]]) -> Trend | None:
    """Fit the trend of the metric over the widths with an optimum, using the seeds that all these widths share."""
    fitted = [(at_width, at_optimum) for at_width, at_optimum in rows if at_optimum.curve.height_by_seed]
    shared = set.intersection(*(set(at_width.seeds) for at_width, _ in fitted)) if fitted else set()
    if len(fitted) < 2 or len(shared) < 3:
        return None
    values = [
        [height for seed, height in zip(at_width.seeds, at_optimum.curve.height_by_seed, strict=True) if seed in shared]
        for at_width, at_optimum in fitted
    ]
    unit = fitted_unit(fitted[0][1].metric, fitted[0][1].height.unit)
    return trend(
        np.array([at_width.width for at_width, _ in fitted]),
        np.array(values).T,
        unit=unit,
        shared_errors=np.array([at_optimum.curve.shape_error for _, at_optimum in fitted]),
    )
