from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.estimate import as_json
from noisescale.laws.edges import measured_edges
from noisescale.laws.planted_curves import failures
from noisescale.laws.stability import stability_edge

STEP = math.log(math.sqrt(2))
RATES = np.exp(np.arange(-10, 11) * STEP)


def ladder(*first_failures: int) -> np.ndarray:
    return np.array([[float(rate >= first) for rate in range(RATES.size)] for first in first_failures])


def test_seeds_that_fail_in_one_cell_give_that_cell() -> None:
    edge = stability_edge(RATES, ladder(*[10] * 8))
    assert edge.label == "single_cell"
    assert edge.rate.value == pytest.approx(math.sqrt(RATES[9] * RATES[10]), rel=0.02)
    assert RATES[9] * 0.99 <= edge.rate.low <= RATES[9] * 1.03
    assert RATES[10] * 0.97 <= edge.rate.high <= RATES[10] * 1.01
    assert edge.distribution_free.low == pytest.approx(RATES[9])
    assert edge.distribution_free.high == pytest.approx(RATES[10])


def test_a_fine_ladder_gives_the_t_interval_of_the_log_thresholds() -> None:
    thresholds = np.array([-0.4, -0.2, -0.1, 0.0, 0.05, 0.12, 0.3, 0.5])
    rates = np.exp(np.linspace(-1, 1, 2001))
    edge = stability_edge(rates, (np.log(rates) >= thresholds[:, None]).astype(float))
    half = 2.3646 * thresholds.std(ddof=1) / math.sqrt(8)
    assert math.log(edge.rate.value) == pytest.approx(thresholds.mean(), abs=0.01)
    assert math.log(edge.rate.low) == pytest.approx(thresholds.mean() - half, abs=0.02)
    assert math.log(edge.rate.high) == pytest.approx(thresholds.mean() + half, abs=0.02)
    # The nonparametric median of eight thresholds lies between the fourth and the fifth.
    assert 0.0 <= math.log(edge.distribution_free.value) <= 0.05


@pytest.mark.parametrize(
    ("first_failures", "label"),
    [([99] * 8, "no_failure"), ([0] * 8, "all_fail"), ([5] * 5, "too_few_seeds"), ([8, 9, 9, 10, 10, 11], "bracketed")],
)
def test_labels(first_failures: list[int], label: str) -> None:
    edge = stability_edge(RATES, ladder(*first_failures))
    assert edge.label == label
    assert edge.rate.bounded == (label == "bracketed")


def test_an_unbracketed_median_is_a_bound() -> None:
    above = stability_edge(RATES, ladder(*[99] * 5, 18, 19, 20))
    assert above.rate.value == pytest.approx(RATES[-1]) and above.rate.high == math.inf
    below = stability_edge(RATES, ladder(*[0] * 8))
    assert below.rate.value == pytest.approx(RATES[0]) and below.rate.low == -math.inf


def test_returning_stability_is_reported_and_does_not_move_the_threshold() -> None:
    plain = ladder(8, 9, 9, 10, 10, 11, 9, 10)
    fractal = plain.copy()
    fractal[:2, 14] = 0
    edge = stability_edge(RATES, fractal)
    assert edge.returning == 0.25
    assert edge.rate == stability_edge(RATES, plain).rate


def test_rates_too_small_to_learn_are_ignored() -> None:
    failed = ladder(*[10] * 8)
    failed[:, :4] = 1.0
    slow, quick = stability_edge(RATES, failed), stability_edge(RATES, ladder(*[10] * 8))
    assert slow.rate == quick.rate and slow.label == quick.label and slow.returning == quick.returning == 0
    # A seed that fails at every rate counts as failing from the lowest rate on.
    assert stability_edge(RATES, np.ones((8, RATES.size))).label == "all_fail"


def test_a_single_seed_gives_its_cell_and_no_interval() -> None:
    edge = stability_edge(RATES, ladder(10))
    assert edge.label == "too_few_seeds" and edge.rate.value == pytest.approx(math.sqrt(RATES[9] * RATES[10]))
    assert math.isnan(edge.rate.low)


def test_a_missing_run_widens_the_interval_of_its_seed() -> None:
    failed = ladder(*[10] * 8)
    failed[:, 9] = math.nan
    edge = stability_edge(RATES, failed)
    assert edge.step == pytest.approx(2 * STEP)
    assert edge.distribution_free.low == pytest.approx(RATES[8])


@pytest.mark.parametrize("rates", [RATES[::-1], -RATES, RATES[:3]])
def test_unusable_input_is_refused(rates: np.ndarray) -> None:
    with pytest.raises(BadInput, match="stability_edge"):
        stability_edge(rates, ladder(*[10] * 8))


def coverage(cells: float, seeds: int, draws: int, fractal: float = 0.0) -> tuple[float, float]:
    """Return the coverage of the likelihood interval and of the distribution-free interval."""
    generator = np.random.default_rng(1)
    covered = distribution_free = 0
    for _ in range(draws):
        median = math.exp(generator.uniform(-0.5, 0.5) * STEP)
        edge = stability_edge(RATES, failures(generator, RATES, median, cells * STEP, seeds, fractal))
        covered += edge.rate.covers(median)
        distribution_free += edge.distribution_free.covers(median)
    return covered / draws, distribution_free / draws


@pytest.mark.short
@pytest.mark.parametrize("cells", [0.5, 1.0, 2.0])
def test_the_median_is_covered(cells: float) -> None:
    covered, distribution_free = coverage(cells, seeds=8, draws=100)
    assert covered >= 0.87
    assert distribution_free >= 0.95


@pytest.mark.full
@pytest.mark.parametrize("cells", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seeds", [6, 8, 12])
@pytest.mark.parametrize("fractal", [0.0, 0.1])
def test_the_median_is_covered_over_many_draws(cells: float, seeds: int, fractal: float) -> None:
    covered, distribution_free = coverage(cells, seeds, draws=500, fractal=fractal)
    assert 0.91 <= covered <= 0.99
    assert distribution_free >= 0.95


def test_edges_from_runs_handle_missing_and_repeated_runs() -> None:
    failed = ladder(8, 9, 10, 10, 11, 12, 12)
    failed[0, 3] = math.nan
    rows = [
        {
            "width": 8,
            "batch_size": 4,
            "seed": 7 + seed,
            "learning_rate": rate,
            "steps": 9,
            "diverged_or_collapsed": bool(value),
        }
        for seed, failures_of_seed in enumerate(failed)
        for rate, value in zip(RATES, failures_of_seed, strict=True)
        if not math.isnan(value)
    ]
    # If one of two repeated runs failed, the failure counts.
    failed[1, 2] = 1
    runs = pd.DataFrame([*rows, rows[20 + 2] | {"diverged_or_collapsed": True}]).sample(frac=1, random_state=0)
    (edge,) = measured_edges(runs)
    assert (edge.width, edge.batch_size, edge.steps) == (8, 4, 9)
    assert as_json(edge.edge) == as_json(stability_edge(RATES, failed))
