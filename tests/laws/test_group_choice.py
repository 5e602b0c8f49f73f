"""The choice among groups: SGD and AdamW, momenta and label noises. The planted AdamW has its best rate at 0.8·√B."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.laws import Fit, fit, recommend

Make = Callable[..., Any]
# Planted loss of accuracy of AdamW at the larger batch size.
BATCH_PENALTY = 0.03


def adamw(make_study: Make, *, seeds: int = 8) -> pd.DataFrame:
    """Return runs of AdamW at the batch sizes 8 and 32, whose accuracy does not depend on noise."""
    rates = tuple(0.25 * 2**k for k in range(8))
    table = make_study(batches=(8, 32), rates=rates, seeds=seeds, stability=False, random_seed=3).table
    distance = np.log(table.learning_rate / (0.8 * np.sqrt(table.batch_size)))
    accuracy = 0.5 + 0.01 * np.log2(table.width / 64) - 0.02 * distance**2 - BATCH_PENALTY * (table.batch_size == 32)
    accuracy += 0.004 * np.random.default_rng(1).standard_normal(len(table))
    return table.assign(
        optimizer="adamw", beta1=0.9, beta2=0.999, epsilon=1e-8, status="completed", test_accuracy=accuracy,
        noise_scale=math.nan, temperature=math.nan, normalized_noise_scale=math.nan,
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(make_study: Make) -> Fit:
    """Return the fit of a study of SGD and AdamW, in which SGD is better."""
    sgd = make_study(rates=(2.0,))
    tables = [sgd.table.assign(optimizer="sgd"), adamw(make_study)]
    return fit(replace(sgd, table=pd.concat(tables, ignore_index=True)))


def test_a_batch_size_that_one_group_cannot_serve_is_served_by_the_other(both: Fit) -> None:
    recommendation = recommend(both, 128, batch_size=4)
    assert (recommendation.optimizer_name, recommendation.batch_size) == ("sgd", 4)
    (line,) = [text for text in recommendation.basis if text.startswith("left out: ")]
    assert "optimizer adamw" in line and "a trained batch size (8, 32)" in line
    assert not any(text.startswith("left out: ") for text in recommend(both, 128, batch_size=8).basis)


def test_a_batch_size_that_no_group_can_serve_is_refused_with_every_reason(both: Fit) -> None:
    with pytest.raises(BadInput, match=r"optimizer sgd \(batch_size.*optimizer adamw \(batch_size"):
        recommend(both, 128, batch_size=4000)


def test_the_regret_of_a_given_batch_size_is_against_the_best_batch_size(both: Fit) -> None:
    held = {"optimizer": "adamw"}
    ladder = {rung.batch_size: rung for rung in recommend(both, 128, held=held).ladder}
    assert ladder[32].expected_regret.value == pytest.approx(BATCH_PENALTY, abs=0.005)
    for batch, rung in ladder.items():
        given = recommend(both, 128, batch_size=batch, held=held)
        assert given.expected_regret == rung.expected_regret
        assert [part.batch_size for part in given.ladder] == [batch]


def test_the_sentence_names_only_hyperparameters_that_differ(both: Fit, make_study: Make) -> None:
    sentence = recommend(both, 128).basis[2]
    assert sentence.endswith("optimizer adamw") and "of 2 groups: optimizer sgd; " in sentence
    sgd = make_study(rates=(2.0,)).table.assign(optimizer="sgd")
    tables = [sgd, adamw(make_study), adamw(make_study).assign(beta1=0.8)]
    three = fit(replace(make_study(rates=(2.0,)), table=pd.concat(tables, ignore_index=True)))
    sentence = recommend(three, 128).basis[2]
    assert "of 3 groups: optimizer sgd; " in sentence and "None" not in sentence
    assert "optimizer adamw, beta1 0." in sentence


def test_only_warnings_of_the_followed_group_are_given(both: Fit) -> None:
    text = "no stability ladder"
    assert any(text in warning for warning in both.warnings)
    assert not any(text in warning for warning in recommend(both, 128, held={"optimizer": "sgd"}).warnings)
    assert any(text in warning for warning in recommend(both, 128, held={"optimizer": "adamw"}).warnings)


def test_different_label_noises_are_different_problems(make_study: Make) -> None:
    clean = make_study(rates=(2.0,))
    noisy = clean.table.assign(label_noise=0.3, test_accuracy=clean.table.test_accuracy - 0.1)
    study = fit(replace(clean, table=pd.concat([clean.table, noisy], ignore_index=True)))
    with pytest.raises(BadInput, match=r"--set: grid\.label_noise=VALUE with one of 0\.0, 0\.3"):
        recommend(study, 128)
    values = [recommend(study, 128, held={"label_noise": noise}).expected_metric.value for noise in ("0", "0.3")]
    assert values[0] - values[1] == pytest.approx(0.1, abs=1e-3)


def test_an_unknown_key_lists_the_keys_and_an_unknown_value_the_values(both: Fit) -> None:
    with pytest.raises(BadInput, match=r"--set: one of parameterization, optimizer, momentum, .*beta1.*Got: 'widht'"):
        recommend(both, 128, held={"widht": 32})
    with pytest.raises(BadInput, match=r"--set optimizer: one of the trained values \(sgd, adamw\)\. Got: adam\."):
        recommend(both, 128, held={"optimizer": "adam"})


def test_a_group_whose_runs_all_failed_is_left_out(make_study: Make) -> None:
    sgd = make_study(rates=(2.0,))
    failed = sgd.table.assign(momentum=0.9, status="diverged", test_accuracy=math.nan, test_loss=math.nan)
    study = replace(sgd, table=pd.concat([sgd.table, failed], ignore_index=True))
    recommendation = recommend(study, 128)
    assert recommendation.momentum == 0
    assert any("left out: momentum 0.9 (recommend: a run that neither" in text for text in recommendation.basis)
