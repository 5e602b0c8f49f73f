"""Trends over batches: their runs, a change that a straight line hides, and failed runs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from noisescale.claims import below, over_pairs
from noisescale.claims.cross_fitting import at_cells, chosen_by_others
from noisescale.claims.experiments import equal_steps
from noisescale.claims.experiments.paired_choice import choose_in_pairs
from noisescale.claims.sweep_runs import slopes

SEEDS = 8


def runs_at_one_batch(accuracy: dict[float, float], loss: dict[float, float]) -> pd.DataFrame:
    """Return runs that are the same for every seed, except for an offset of the accuracy."""
    return pd.DataFrame(
        [
            {"seed": seed, "batch_size": 32, "learning_rate": rate, "accuracy": accuracy[rate] + 0.001 * seed,
             "train_loss": loss[rate], "diverged_or_collapsed": not np.isfinite(loss[rate])}
            for seed, rate in itertools.product(range(SEEDS), accuracy)
        ]
    )  # fmt: skip


def test_both_metrics_come_from_the_same_runs() -> None:
    runs = runs_at_one_batch({1.0: 0.5, 2.0: 0.6, 4.0: 0.55, 8.0: 0.1}, {1.0: 0.9, 2.0: 0.8, 4.0: 0.3, 8.0: np.nan})
    chosen = choose_in_pairs(runs)
    offsets = 0.001 * np.arange(SEEDS)
    np.testing.assert_allclose(chosen.accuracy, 0.6 + offsets)
    np.testing.assert_allclose(chosen.loss, 0.8)
    np.testing.assert_allclose(chosen.accuracy_by_loss, 0.55 + offsets)
    np.testing.assert_allclose(chosen.loss_by_loss, 0.3)
    assert not chosen.at_end and not chosen.at_end_by_loss
    assert equal_steps._failures(runs) == {"failed runs of 32": 8.0, "failed runs at B = 32, ε = 8": 8.0}


def test_a_rise_in_the_middle_appears_beside_the_line() -> None:
    """A least-squares line through three batches at equal ratios gives no weight to the middle batch."""
    x, values = np.log2([32.0, 128.0, 512.0]), np.tile([0.60, 0.63, 0.58], (SEEDS, 1))
    values += 0.001 * np.random.default_rng(0).standard_normal(values.shape)
    lowered = values - [0, 0.1, 0]
    np.testing.assert_allclose(slopes(x, values), slopes(x, lowered), atol=1e-12)
    first, second = equal_steps._changes("accuracy", [32, 128, 512], values, "fraction", "", below(0.005))
    assert (first.outcome, second.outcome) == ("contradicted", "supported")
    assert first.name == "accuracy, B = 128 minus B = 32" and first.estimate.value == pytest.approx(0.03, abs=0.002)


def test_the_interval_contains_the_choice_between_two_tied_rates() -> None:
    """At the smaller batch, two rates tie in accuracy and differ by 0.1 nats. At the larger batch, the first is best.

    In the mean over choices, the loss rises by 0.048 with the batch. If each half of the seeds chose one rate for the
    other half, both halves would choose the first rate in a quarter of the draws. The loss would then always fall.
    """
    generator, draws = np.random.default_rng(0), 200
    accuracy, loss = {32: [0.60, 0.60, 0.3], 512: [0.60, 0.55, 0.3]}, np.array([1.3, 1.2, 2.0])
    supported = covers = 0
    for _ in range(draws):
        losses = []
        for batch in (32, 512):
            rates = chosen_by_others(accuracy[batch] + 0.003 * generator.standard_normal((SEEDS, 3)), "pairs")
            values = loss - 0.002 * (batch == 512) + 0.0005 * generator.standard_normal((SEEDS, 3))
            losses.append(at_cells(values, rates))
        smaller, larger = losses
        change = over_pairs("training loss", larger - smaller, "nats", "", below(0))
        supported += change.outcome == "supported"
        covers += change.estimate.low <= 0.048 <= change.estimate.high
        assert change.seeds == SEEDS
    assert supported <= 0.08 * draws
    assert covers >= 0.9 * draws


def test_no_seed_chooses_its_own_cell() -> None:
    """Every seed is best at another cell, so the chosen cell shows which other seeds chose it."""
    scores = np.eye(4)
    assert chosen_by_others(scores, "pairs").tolist() == [1, 0, 3, 2]
    weighted = scores * [[1], [2], [1], [2]]
    assert chosen_by_others(weighted, "halves").tolist() == [3, 3, 1, 1]
    assert chosen_by_others(np.eye(3), "halves").tolist() == [1, 0, 0]
