"""The height of the optimum at a width that was not trained: its law, and other people's runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from noisescale.estimate import Estimate
from noisescale.laws.heights import predicted_height
from noisescale.laws.metric_scale import metric_values
from noisescale.laws.optima import Optimum

WIDTHS = np.array([16.0, 32.0, 64.0])


def optimum_of(height: float, error: float, span: float) -> Optimum:
    nowhere = Estimate(0.0, 0.0, 0.0, "", "")
    estimate = Estimate(height, height - 2 * error, height + 2 * error, "nats", "", standard_error=error)
    return Optimum(
        "interior", "", nowhere, 0.0, estimate, (height,), 0.0, (), 0.0, (), 1, 5, span,
        likelihood=None, shape=None, draws=None,
    )  # fmt: skip


def predicted(widths: np.ndarray, losses: np.ndarray, span: float, target: float, seed: int = 0) -> np.ndarray:
    """Return draws of the loss at a width, from losses with an error of 0.3 % of the span."""
    optima = {float(w): optimum_of(float(y), 0.003 * span, span) for w, y in zip(widths, losses, strict=True)}
    return -predicted_height(optima, target, -1.0, 4000, np.random.default_rng(seed)).draws


@pytest.mark.parametrize("power", [-0.75, 0.0, 0.4, 0.9])
def test_intervals_hold_planted_heights(power: float) -> None:
    generator = np.random.default_rng(7)
    held = []
    for seed in range(150):
        rise, target = 0.3 * generator.random(), float(generator.choice([128.0, 256.0]))
        w = np.append(WIDTHS, target) / 32
        f = np.log(w) if power == 0 else -np.expm1(-power * np.log(w)) / power
        losses = 2.0 - rise * f + 0.02 * generator.standard_normal(4)
        low, high = np.quantile(predicted(WIDTHS, losses[:3], 2.0, target, seed), (0.025, 0.975))
        held.append(low <= losses[3] <= high)
    assert np.mean(held) >= 0.9


def test_a_fall_that_becomes_steeper_may_continue() -> None:
    # A transformer on bytes: the loss fell by more at each doubling, and so it did at the next.
    draws = predicted(WIDTHS / 2, np.array([2.72, 2.50, 2.24]), 1.0, 64.0)
    low, high = np.quantile(draws, (0.025, 0.975))
    assert low < 1.97 < high
    assert draws.mean() < 2.1


def test_heights_without_a_trend_stay() -> None:
    draws = predicted(WIDTHS, np.array([1.0, 1.003, 0.998]), 1.0, 128.0)
    assert abs(draws.mean() - 1.0) < 0.01
    assert 0.005 < draws.std() < 0.05


def test_intervals_hold_the_losses_of_other_peoples_runs(tables: Path) -> None:
    runs = pd.read_csv(tables / "mup_sgd_width_lr.csv")
    held, scores = [], []
    for _, of_epoch in runs[runs.epoch.isin([1, 2, 3, 5, 8, 12, 20])].groupby(["parameterization", "epoch"]):
        best = of_epoch.groupby("width").train_loss.min()
        for last in range(2, len(best)):
            span = math.log(10) - best.iloc[last - 1]
            draws = predicted(best.index.values[:last], best.values[:last], span, best.index[last]) / span
            truth = best.iloc[last] / span
            held.append(np.quantile(draws, 0.025) <= truth <= np.quantile(draws, 0.975))
            scores.append(np.abs(draws - truth).mean() - 0.5 * np.abs(draws[::2] - draws[1::2]).mean())
    assert len(held) >= 50
    assert np.mean(held) >= 0.88
    # With powers from 0 and a spread of 1 the score is 0.053.
    assert np.mean(scores) < 0.042


@pytest.mark.parametrize(
    ("metric", "unit", "fitted", "value"),
    [
        ("accuracy", "fraction", [-0.1, 1.2], [0.0, 1.0]),
        ("loss", "nats", [-0.1, 3.0], [0.0, 3.0]),
        ("loss", "loss", [-0.1, 3.0], [-0.1, 3.0]),
        ("r2", "R²", [-2.0, 1.1], [-2.0, 1.0]),
        ("perplexity", "perplexity", [-0.1, 0.0], [1.0, 1.0]),
    ],
)  # fmt: skip
def test_values_stay_within_the_range_of_their_metric(
    metric: str, unit: str, fitted: list[float], value: list[float]
) -> None:
    assert metric_values(fitted, metric, unit) == pytest.approx(value)
