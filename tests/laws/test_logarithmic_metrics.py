"""A perplexity is fitted on its logarithm: its optima, laws and regrets are those of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from noisescale.laws import fit, recommend

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def studies(make_study: Make) -> tuple[Any, Any]:
    of_loss = make_study(rates=(2.0,), widths=(16, 32, 64), seeds=4, metric="loss")
    table = of_loss.runs().drop(columns=["test_accuracy", "validation_accuracy", "chance_accuracy"])
    of_loss = replace(of_loss, table=table)
    perplexities = {f"{name}_perplexity": np.exp(table[f"{name}_loss"]) for name in ("test", "validation", "chance")}
    spec = {**of_loss.spec, "fit": {**of_loss.spec["fit"], "metric": "perplexity"}}
    return of_loss, replace(of_loss, table=table.assign(**perplexities), spec=spec)


def test_optima_and_laws_are_those_of_the_logarithm(studies: tuple[Any, Any]) -> None:
    of_loss, of_perplexity = (fit(study).groups[0].series[0] for study in studies)
    for plain, logarithmic in zip(of_loss.widths, of_perplexity.widths, strict=True):
        loss, perplexity = plain.optima["loss"], logarithmic.optima["perplexity"]
        assert perplexity.curve.place.value == pytest.approx(loss.curve.place.value)
        assert perplexity.height.value == pytest.approx(math.exp(loss.height.value))
        assert perplexity.height.interval == pytest.approx([math.exp(end) for end in loss.height.interval])
        assert perplexity.height.unit == "perplexity"
    slopes = [series.laws[name].normalized_noise_scale.slope
              for series, name in ((of_loss, "loss"), (of_perplexity, "perplexity"))]  # fmt: skip
    assert slopes[0].value == pytest.approx(slopes[1].value)


def test_the_recommendation_states_perplexities_and_a_regret_in_nats(studies: tuple[Any, Any]) -> None:
    of_loss, of_perplexity = (recommend(study, 128) for study in studies)
    assert of_perplexity.batch_size == of_loss.batch_size
    assert of_perplexity.learning_rate.value == pytest.approx(of_loss.learning_rate.value)
    expected, logarithm = of_perplexity.expected_metric, of_loss.expected_metric
    for name in ("low", "high", "run_low", "run_high"):
        assert getattr(expected, name) == pytest.approx(math.exp(getattr(logarithm, name)))
    assert of_perplexity.expected_regret.value == pytest.approx(of_loss.expected_regret.value)
    assert of_perplexity.expected_regret.unit == "nats"
