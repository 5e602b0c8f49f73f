"""Trends over batches: which runs they are of, what a straight line does not see, and what failed."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from noisescale.claims import equal_steps
from noisescale.claims.criterion import below, over_pairs
from noisescale.claims.ladders import slopes

SEEDS = 8


def runs_of(accuracy: dict[float, float], loss: dict[float, float]) -> pd.DataFrame:
    """Of one batch, the same in every seed but for a seed's own offset of accuracy."""
    return pd.DataFrame(
        [
            {"seed": seed, "batch_size": 32, "learning_rate": rate, "accuracy": accuracy[rate] + 0.001 * seed,
             "train_loss": loss[rate], "failed": not np.isfinite(loss[rate])}
            for seed, rate in itertools.product(range(SEEDS), accuracy)
        ]
    )  # fmt: skip


def test_both_metrics_are_of_the_same_runs() -> None:
    runs = runs_of({1.0: 0.5, 2.0: 0.6, 4.0: 0.55, 8.0: 0.1}, {1.0: 0.9, 2.0: 0.8, 4.0: 0.3, 8.0: np.nan})
    found = equal_steps._Chosen(runs)
    offsets = 0.001 * np.arange(SEEDS)
    np.testing.assert_allclose(found.accuracy, 0.6 + offsets)
    np.testing.assert_allclose(found.loss, 0.8)
    np.testing.assert_allclose(found.accuracy_by_loss, 0.55 + offsets)
    np.testing.assert_allclose(found.loss_by_loss, 0.3)
    assert not found.at_end and not found.at_end_by_loss
    assert equal_steps._failures(runs) == {"failed runs of 32": 8.0, "failed runs at B = 32, ε = 8": 8.0}


def test_a_rise_in_the_middle_is_seen_beside_the_line() -> None:
    """A least-squares line through three batches in equal octaves gives the middle one no weight at all."""
    x, values = np.log2([32.0, 128.0, 512.0]), np.tile([0.60, 0.63, 0.58], (SEEDS, 1))
    values += 0.001 * np.random.default_rng(0).standard_normal(values.shape)
    lowered = values - [0, 0.1, 0]
    np.testing.assert_allclose(slopes(x, values), slopes(x, lowered), atol=1e-12)
    first, second = equal_steps._steps("accuracy", [32, 128, 512], values, "fraction", "", below(0.005))
    assert (first.outcome, second.outcome) == ("contradicted", "supported")
    assert first.name == "accuracy, B = 128 less B = 32" and first.estimate.value == pytest.approx(0.03, abs=0.002)


def test_the_interval_contains_which_of_two_tied_rates_is_chosen() -> None:
    """At the smaller batch two rates tie in accuracy and differ by 0.1 nats; at the larger one the first is best.

    In the mean over choices the loss rises by 0.048 with the batch. Where each half of the seeds chose for all of the
    other, both took the first rate in a quarter of the draws, and the loss then fell for certain.
    """
    generator, draws = np.random.default_rng(0), 200
    accuracy, loss = {32: [0.60, 0.60, 0.3], 512: [0.60, 0.55, 0.3]}, np.array([1.3, 1.2, 2.0])
    supported = covers = 0
    for _ in range(draws):
        smaller, larger = (
            equal_steps._cross_fitted(
                accuracy[batch] + 0.003 * generator.standard_normal((SEEDS, 3)),
                (np.empty((SEEDS, 3)), loss - 0.002 * (batch == 512) + 0.0005 * generator.standard_normal((SEEDS, 3))),
            )[1]
            for batch in (32, 512)
        )
        found = over_pairs("training loss", larger - smaller, "nats", "", below(0))
        supported += found.outcome == "supported"
        covers += found.estimate.low <= 0.048 <= found.estimate.high
        assert found.seeds == SEEDS
    assert supported <= 0.08 * draws
    assert covers >= 0.9 * draws
