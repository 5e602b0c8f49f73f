"""What a recommendation says about where it holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from noisescale.input_shapes import TokenShape
from noisescale.laws import recommend
from noisescale.laws.validity import inputs_in_words

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("shape", "standardize", "words"),
    [
        ((1, 8, 8), None, "inputs standardized to mean 0 and deviation 1 on it (each channel)"),
        ((8,), "columns", "inputs standardized to mean 0 and deviation 1 on it (each column)"),
        ((8,), False, "inputs as the data set gives them"),
        (TokenShape((8,), 16), None, "sequences of 8 tokens of 16 kinds"),
    ],
)
def test_the_validity_describes_the_inputs(shape: tuple[int, ...], standardize: object, words: str) -> None:
    assert inputs_in_words(shape, standardize) == words


def test_the_validity_says_why_steps_differ_from_the_trained_ones(make_study: Make) -> None:
    recommendation = recommend(make_study(rates=(2.0,)), width=512)
    assert recommendation.steps != 5000
    (line,) = (line for line in recommendation.validity if "trained for" in line)
    assert line.startswith("trained for up to 5,000 steps, at ε·steps = 1e+04: ")
    assert line.endswith("at another rate the same ε·steps takes another number of steps")
    epochs = recommend(make_study(rates=(2.0,), steps=None, epochs=4), width=512)
    assert any("the same epochs take another number of steps" in line for line in epochs.validity)
    # A law of the rate holds at its number of steps.
    table = make_study(rates=(0.5, 1.0, 2.0, 4.0), batches=(8,)).runs().assign(optimizer="adamw", noise_scale=math.nan)
    table = table.assign(beta1=0.9, beta2=0.999, epsilon=1e-8)
    by_rate = recommend(replace(make_study(), table=table), width=128)
    assert "trained for up to 5,000 steps" in by_rate.validity
    assert not any("ε·steps" in line for line in by_rate.validity)


def test_the_validity_lists_the_training_options(make_study: Make) -> None:
    study = make_study(rates=(2.0,))
    plain = recommend(study, width=512)
    assert not plain.nesterov and any("constant learning rate" in line for line in plain.validity)
    changed = study.table.assign(
        momentum=0.9, weight_decay=0.01, nesterov=True, decay="independent", clip_norm=0.5, augmentation="flip crop",
        schedule=["constant" if purpose == "stability" else "cosine final=0.1" for purpose in study.table.purpose],
    )  # fmt: skip
    recommendation = recommend(replace(study, table=changed), width=512)
    validity = " ".join(recommendation.validity)
    for phrase in ("schedule cosine final=0.1", "Nesterov", "multiplies the weights by 1 − ελ", "= 0.5", "flip, crop"):
        assert phrase in validity
    assert recommendation.nesterov
    # The edge was measured at constant rates, and the peak rate of the schedule is compared with it.
    assert math.isfinite(recommendation.stability_edge.value)
