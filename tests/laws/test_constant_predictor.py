"""Studies in which runs fail or learn nothing. A planted constant predictor has an accuracy of 0.1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit, recommend
from noisescale.laws.constant_predictor import Failures
from noisescale.laws.expected_metrics import Prospect

Make = Callable[..., Any]
NOTHING_LEARNED = "no cell beats the constant predictor"


def changed(study: Any, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Any:
    """Return a study whose runs of the grid are changed."""
    grid = study.table.purpose == "sweep"
    return replace(study, table=pd.concat([change(study.table[grid].copy()), study.table[~grid]], ignore_index=True))


def failing(runs: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Let the runs of the first seeds diverge."""
    runs.loc[runs.seed < seeds, "status"] = "diverged"
    runs.loc[runs.seed < seeds, ["test_accuracy", "test_loss"]] = math.nan
    return runs


def test_a_study_whose_runs_all_failed_has_no_recommendation(make_study: Make) -> None:
    study = changed(make_study(), lambda runs: failing(runs, 8))
    assert any("every run of the grid diverged or collapsed" in warning for warning in fit(study).warnings)
    with pytest.raises(BadInput, match="recommend: a run that neither diverged nor collapsed.*learning rate 1"):
        recommend(study, 64)


@pytest.mark.parametrize("seeds", [1, 2, 8])
def test_a_study_that_learned_nothing_says_so(make_study: Make, seeds: int) -> None:
    generator = np.random.default_rng(2)
    noise = 0.0 if seeds == 1 else 0.01
    study = changed(
        make_study(seeds=seeds),
        lambda runs: runs.assign(test_accuracy=0.1 + noise * generator.standard_normal(len(runs))),
    )
    assert any(NOTHING_LEARNED in warning for warning in recommend(study, 64).warnings)


@pytest.mark.parametrize("failed", [0, 1, 4, 7])
def test_a_study_that_learned_does_not_say_so_even_if_runs_failed(make_study: Make, failed: int) -> None:
    study = changed(make_study(), lambda runs: failing(runs, failed))
    assert not any(NOTHING_LEARNED in warning for warning in fit(study).warnings)


@pytest.mark.parametrize("width", [64, 96])
def test_failing_seeds_of_the_best_cell_are_named_and_in_the_interval_of_single_runs(
    make_study: Make, width: int
) -> None:
    study = changed(make_study(), lambda runs: failing(runs, 4))
    recommendation = recommend(study, width)
    (warning,) = [text for text in recommendation.warnings if "diverged or collapsed" in text]
    assert warning.startswith("4 of 8 runs (50 %)")
    metric = recommendation.expected_metric
    # Half of the runs are the constant predictor, and the others reach 0.6.
    assert metric.value == pytest.approx(0.35, abs=0.03)
    assert metric.run_low == pytest.approx(0.1)
    assert 0.58 < metric.run_high < 0.68
    assert not any("diverged or collapsed" in text for text in recommend(make_study(), width).warnings)


def test_without_a_law_failing_seeds_are_named_too(make_study: Make) -> None:
    study = changed(make_study(seeds=2), lambda runs: failing(runs, 1))
    assert any("1 of 2 runs (50 %)" in warning for warning in recommend(study, 64).warnings)


def test_the_interval_of_single_runs_contains_that_of_their_mean() -> None:
    # In 3.2 % of the draws the mean is 0.8. Of single runs, which scatter about it, less than 2.5 % are above 0.8.
    heights = np.where(np.arange(1000) < 32, 0.8, 0.4)
    metric = Prospect(np.zeros(1000), heights, 0.05, 0.4).metric("accuracy", "fraction", "")
    assert metric.run_low < metric.low < metric.high == metric.run_high == 0.8


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_interval_of_single_runs_covers_them_however_few_seeds_measured_their_deviation(seeds: int) -> None:
    generator, covered, repeats = np.random.default_rng(seeds), 0, 2000
    for _ in range(repeats):
        deviation = float(generator.normal(0.0, 0.01, seeds).std(ddof=1))
        run = Prospect(np.zeros(50), np.full(50, 0.4), deviation, 0.4, seeds - 1.0).metric("r2", "R²", "")
        covered += run.run_low <= 0.4 + generator.normal(0.0, 0.01) <= run.run_high
    # Three standard errors of the share of 2000 repeats.
    assert abs(covered / repeats - 0.95) < 0.015


def test_single_runs_are_a_mixture_of_failed_and_trained_runs() -> None:
    means = np.full(1000, 0.4)
    share, constant, deviation = 0.25, 0.1, 0.01
    mixture = Prospect(np.zeros(1000), means, deviation, 0.4, failures=Failures(share, constant))
    metric = mixture.metric("accuracy", "fraction", "")
    # The trained runs have a mean of (0.4 − 0.25·0.1)/0.75 = 0.5. Of all runs, 2.5 % are above their 96.7 % quantile.
    assert metric.run_low == pytest.approx(constant)
    assert metric.run_high == pytest.approx(0.5 + 1.83 * deviation, abs=0.003)
    without = Prospect(np.zeros(1000), means, deviation, 0.4).metric("accuracy", "fraction", "")
    assert without.run_low == pytest.approx(0.4 - 1.96 * deviation, abs=0.003)
    # A loss of the constant predictor of 2.3 lies at the upper end.
    loss = Prospect(np.zeros(1000), -means, deviation, -0.4, failures=Failures(share, -2.3)).metric("loss", "nats", "")
    assert loss.run_high == pytest.approx(2.3) and loss.run_low < loss.value
