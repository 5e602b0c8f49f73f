"""The law that a recommendation follows: ladders of several batch sizes, and priors of exponents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from noisescale.laws import Fit, fit
from noisescale.laws.place_laws import PlaceDensity, place_law
from noisescale.laws.pooled_laws import pooled_law
from noisescale.laws.results import Group

Make = Callable[..., Any]


def density(place: float, error: float = 0.1) -> PlaceDensity:
    """Return a normal likelihood of a place."""
    places = np.linspace(place - 1, place + 1, 201)
    values = np.exp(-0.5 * ((places - place) / error) ** 2)
    return PlaceDensity(places, values / values.sum(), open_low=False, open_high=False)


@pytest.fixture(scope="module")
def adamw(make_study: Make) -> Fit:
    """Return the fit of AdamW at two batch sizes, with its best rate at 0.8·√B for every width."""
    rates = tuple(0.25 * 2**k for k in range(8))
    study = make_study(batches=(8, 32), rates=rates, seeds=5, stability=False, random_seed=3)
    distance = np.log(study.table.learning_rate / (0.8 * np.sqrt(study.table.batch_size)))
    accuracy = 0.5 - 0.02 * distance**2 + 0.004 * np.random.default_rng(1).standard_normal(len(distance))
    table = study.table.assign(
        optimizer="adamw", beta1=0.9, beta2=0.999, epsilon=1e-8, status="completed", test_accuracy=accuracy,
        noise_scale=math.nan, temperature=math.nan, normalized_noise_scale=math.nan,
    )  # fmt: skip
    return fit(replace(study, table=table))


def at_512(group: Group, batch: float) -> np.ndarray[Any, Any]:
    """Return the median and the ends of the pooled law's rate at width 512."""
    series = next(series for series in group.series if series.fixed_value == batch)
    law = pooled_law(series, group, "accuracy")
    assert law is not None
    return np.exp(law.predicted({"width": math.log(512)}))


def test_a_law_at_one_value_of_an_axis_is_the_law_there() -> None:
    rows = [(width, batch) for width in (16.0, 32.0, 64.0) for batch in (8.0, 32.0)]
    axes = {"width": np.log([width for width, _ in rows]), "batch_size": np.log([batch for _, batch in rows])}
    law = place_law(axes, [density(0.3 * math.log(width) + 0.5 * math.log(batch)) for width, batch in rows])
    logs = {"width": math.log(100), "batch_size": math.log(20)}
    at_batch = law.at("batch_size", math.log(20))
    assert at_batch.axes == ("width",)
    assert at_batch.values({"width": math.log(100)}) == pytest.approx(law.values(logs), abs=1e-12)
    at_width = law.at("width", math.log(100))
    assert at_width.values({"batch_size": math.log(20)}) == pytest.approx(law.values(logs), abs=1e-12)


def test_the_prior_of_an_exponent_decides_where_the_widths_say_little() -> None:
    logs = {"width": np.log([60.0, 64.0, 68.0])}
    places = [density(0.0, error=0.3)] * 3
    middle, low, high = place_law(logs, places, exponents={"width": (-0.5, 0.25)}).exponent({"width": 4.2}, "width")
    assert middle == pytest.approx(-0.5, abs=0.05) and -1.05 < low < -0.9 and -0.1 < high < 0.05
    assert abs(place_law(logs, places).exponent({"width": 4.2}, "width")[0]) < 0.1


def test_ladders_of_two_batch_sizes_narrow_the_law_of_the_rate(adamw: Fit) -> None:
    (group,) = adamw.groups
    for batch in (8, 32):
        _, low, high = at_512(group, batch)
        assert low < 0.8 * math.sqrt(batch) < high
        alone = next(series for series in group.series if series.fixed_value == batch)
        own = at_512(replace(group, series=(alone,), primary=0), batch)
        assert math.log(high / low) < 0.95 * math.log(own[2] / own[1])


def test_one_rate_for_all_layers_is_expected_to_fall_with_width(adamw: Fit) -> None:
    (group,) = adamw.groups
    several_rates, one_rate = (at_512(replace(group, parameterization=name), 8)[0] for name in ("ntk", "standard"))
    assert one_rate < several_rates


def test_noise_scales_of_one_batch_size_have_the_law_of_their_series(make_study: Make) -> None:
    (group,) = fit(make_study(rates=(2.0,), seeds=5)).groups
    assert pooled_law(group.primary_series, group, "accuracy") is None
    one_rate = pooled_law(group.primary_series, replace(group, parameterization="own"), "accuracy")
    assert one_rate is not None and one_rate.axes == ("width",)
