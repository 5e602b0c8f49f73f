"""The price of a larger rate, from planted cells at three shares of a planted stability edge.

The planted edge is 32·√B for 4 to 64 examples, without error. A planted price is A·(s/½)^k of a span of 0.58, and seeds
scatter by 0.7 points, as on MNIST-1D. Coverage is counted over 200 draws: at a true coverage of 95 %, fewer than 180
(90 %) occur with a probability of 0.1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from noisescale.estimate import as_json, exact
from noisescale.laws import RatePrice, fit
from noisescale.laws.edge_by_batch import EdgeByBatch
from noisescale.laws.rate_prices import rate_price
from noisescale.laws.rungs import Limits, make_rung

Array = NDArray[np.float64]

TRAIN_SIZE, WIDTH = 4000, 128
SHARES = (0.2, 0.35, 0.5)
BATCHES = (8, 16, 32)
EDGE = EdgeByBatch((4.0, 64.0), (math.log(64.0), math.log(256.0)), (math.log(60.0), math.log(240.0)),
                   (math.log(70.0), math.log(280.0)))  # fmt: skip
BEST, CONSTANT = 0.68, 0.1
SPAN = BEST - CONSTANT
DRAWS = 200


def edge_at(width: float) -> EdgeByBatch:
    return EDGE


def planted(
    generator: np.random.Generator,
    price: Callable[[float], float],
    *,
    seeds: int = 5,
    deviation: float = 0.007,
    shares: tuple[float, ...] = SHARES,
) -> pd.DataFrame:
    """Return the runs of cells at the shares, whose accuracy drops by the price and whose loss rises by twice it."""
    rows = []
    for seed in range(seeds):
        level = 0.005 * generator.standard_normal()
        for share, batch in zip(shares, BATCHES, strict=False):
            rate = share * 32 * math.sqrt(batch)
            noise = deviation * generator.standard_normal()
            rows.append(
                {
                    "width": WIDTH,
                    "learning_rate": rate,
                    "batch_size": batch,
                    "steps": round(4e5 / rate),
                    "noise_scale": 2900.0,
                    "seed": seed,
                    "diverged_or_collapsed": False,
                    "test_accuracy": BEST + level - price(share) + noise,
                    "test_loss": 1.0 - 2 * (level - price(share) + noise),
                    "chance_accuracy": CONSTANT,
                    "chance_loss": 1.0 + 2 * SPAN,
                }
            )
    return pd.DataFrame(rows)


def curve(at_half: float, exponent: float = 4.3) -> Callable[[float], float]:
    return lambda share: at_half * (share / 0.5) ** exponent


def measured(runs: pd.DataFrame, metric: str = "accuracy") -> RatePrice:
    price = rate_price(runs, edge_at, metric, "fraction")
    assert price is not None and price.reason == ""
    return price


def test_cells_are_ordered_by_their_share_and_paired_over_seeds() -> None:
    price = measured(planted(np.random.default_rng(0), curve(0.02), deviation=0.0).sample(frac=1, random_state=0))
    assert [cell.share.value for cell in price.cells] == pytest.approx(SHARES)
    assert price.largest_share == pytest.approx(0.5)
    assert [cell.batch_size for cell in price.cells] == [*BATCHES]
    assert [(cell.seeds, cell.failures) for cell in price.cells] == [(5, 0)] * 3
    # Seeds scatter by the same amount in every cell, so pairing removes it.
    expected = [curve(0.02)(share) - curve(0.02)(SHARES[0]) for share in SHARES]
    assert [cell.drop.value for cell in price.cells] == pytest.approx(expected, abs=1e-12)
    assert price.cells[0].drop.is_exact
    share = price.cells[0].share
    assert share.low < share.value < share.high


def test_drops_have_paired_student_intervals() -> None:
    runs = planted(np.random.default_rng(1), curve(0.02))
    table = runs.pivot(index="seed", columns="batch_size", values="test_accuracy")
    differences = (table[8] - table[32]).to_numpy()
    half = 2.776445 * differences.std(ddof=1) / math.sqrt(5)  # t with 4 degrees of freedom
    drop = measured(runs).cells[2].drop
    assert drop.value == pytest.approx(differences.mean())
    assert drop.interval == pytest.approx((differences.mean() - half, differences.mean() + half), rel=1e-6)


@pytest.mark.parametrize(
    ("at_half", "exponent"), [(0.003, 4.3), (0.01, 4.3), (0.02, 4.3), (0.06, 4.3), (0.02, 3.0), (0.02, 6.0)]
)
def test_planted_prices_are_covered_without_bias(at_half: float, exponent: float) -> None:
    points = np.array([0.3, 0.4, 0.5])
    truth = np.array([curve(at_half, exponent)(share) for share in points])
    covered, errors = np.zeros(points.size), []
    for draw in range(DRAWS):
        generator = np.random.default_rng([draw, round(1000 * at_half), round(10 * exponent)])
        price = measured(planted(generator, curve(at_half, exponent)))
        low, high = np.quantile(price.draws(points, 2000, generator), [0.025, 0.975], axis=0)
        covered += (low <= truth) & (truth <= high)
        errors.append(price.mean(points) - truth)
    assert (covered / DRAWS >= 0.9).all()
    # The prior pulls small prices up, and between the cells it pulls the exponent towards 4.3. The bias stays below the
    # standard error of a drop, which is 0.7 points·√(2/5).
    assert (np.abs(np.mean(errors, axis=0)) <= 0.007 * math.sqrt(2 / 5)).all()


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover_with_few_seeds(seeds: int) -> None:
    truth, covered = curve(0.02)(0.5), 0
    for draw in range(DRAWS):
        generator = np.random.default_rng([draw, seeds])
        price = measured(planted(generator, curve(0.02), seeds=seeds))
        low, high = np.quantile(price.draws(np.array([0.5]), 2000, generator), [0.025, 0.975])
        covered += low <= truth <= high
    assert covered / DRAWS >= 0.9


def test_no_price_is_measured_as_a_small_price() -> None:
    means, highs = [], []
    for draw in range(DRAWS):
        generator = np.random.default_rng([draw, 7])
        price = measured(planted(generator, curve(0.0)))
        means.append(price.mean(np.array([0.3, 0.5])))
        highs.append(np.quantile(price.draws(np.array([0.5]), 2000, generator), 0.975))
    # A drop has a standard error of 0.44 points. Below 0.3 of the edge, where the prior says so too, nothing is left.
    assert np.mean(means, axis=0)[0] < 0.001
    assert np.mean(means, axis=0)[1] < 0.0044
    assert np.median(highs) < 2.5 * 0.0044


def test_mean_and_draws_agree_and_are_never_negative() -> None:
    price = measured(planted(np.random.default_rng(2), curve(0.02)))
    points = np.array([0.0, 0.1, 0.2, 0.35, 0.5])
    draws = price.draws(points, 20_000, np.random.default_rng(0))
    assert draws.shape == (20_000, 5) and (draws >= 0).all()
    # Four standard errors of the mean of the draws.
    assert (np.abs(draws.mean(axis=0) - price.mean(points)) <= 4 * draws.std(axis=0) / math.sqrt(20_000)).all()
    assert price.mean(points)[0] == 0
    assert (np.diff(price.mean(points)) > 0).all()
    again = price.draws(points, 20_000, np.random.default_rng(0))
    assert (again == draws).all()


def test_the_price_is_infinite_above_the_largest_share() -> None:
    price = measured(planted(np.random.default_rng(3), curve(0.02)))
    beyond = np.array([0.500001, 0.7, 1e6, math.nan])
    assert np.isposinf(price.mean(beyond)).all()
    assert np.isposinf(price.draws(beyond, 3, np.random.default_rng(0))).all()
    assert np.isfinite(price.mean(np.array([0.5])))


def test_a_metric_to_minimize_has_the_same_price() -> None:
    runs = planted(np.random.default_rng(4), curve(0.02))
    accuracy, loss = measured(runs), measured(runs, "loss")
    for one, two in zip(accuracy.cells, loss.cells, strict=True):
        assert two.drop.value == pytest.approx(2 * one.drop.value)
    points = np.array(SHARES)
    assert loss.mean(points) == pytest.approx(2 * accuracy.mean(points))


def fail(runs: pd.DataFrame, **cells: Any) -> pd.DataFrame:
    """Let runs diverge, whose rows have the values of all columns."""
    failed = np.logical_and.reduce([runs[name].isin(np.atleast_1d(value)) for name, value in cells.items()])
    lost = {"diverged_or_collapsed": True, "test_accuracy": math.nan, "test_loss": math.nan}
    return runs.assign(**{name: runs[name].mask(failed, value) for name, value in lost.items()})


def test_failed_runs_count_as_the_constant_predictor_and_end_the_curve() -> None:
    runs = fail(planted(np.random.default_rng(5), curve(0.02), deviation=0.0), batch_size=32, seed=3)
    price = measured(runs)
    last = price.cells[2]
    assert (last.seeds, last.failures) == (5, 1)
    trained = curve(0.02)(0.5) - curve(0.02)(0.2)
    # The level of a seed is within four of its standard deviations of 0.5 points.
    assert last.drop.value == pytest.approx(0.8 * trained + 0.2 * (SPAN - curve(0.02)(0.2)), abs=0.2 * 0.02)
    assert price.largest_share == pytest.approx(0.35)
    assert np.isposinf(price.mean(np.array([0.4, 0.5]))).all()
    assert price.mean(np.array([0.35]))[0] == pytest.approx(curve(0.02)(0.35), abs=0.003)


def test_failures_that_the_rate_does_not_cause_do_not_end_the_curve() -> None:
    price = measured(fail(planted(np.random.default_rng(6), curve(0.02)), seed=3))
    assert [cell.failures for cell in price.cells] == [1, 1, 1]
    assert price.largest_share == pytest.approx(0.5)
    assert price.mean(np.array([0.5]))[0] == pytest.approx(0.02, abs=0.02)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda runs: runs[runs.batch_size == 8], "fewer than two cells"),
        (lambda runs: runs[runs.seed == 0], "two common seeds"),
        (lambda runs: runs.drop(columns="test_accuracy"), "no test accuracy"),
        (lambda runs: runs.assign(test_accuracy=math.nan), "fewer than two cells"),
        (lambda runs: fail(runs, width=WIDTH), "no cell that measures it has a better accuracy"),
    ],
)
def test_missing_measurements_have_a_reason(change: Callable[[pd.DataFrame], pd.DataFrame], reason: str) -> None:
    price = rate_price(change(planted(np.random.default_rng(8), curve(0.02))), edge_at, "accuracy", "fraction")
    assert price is not None and reason in price.reason
    assert price.cells == () and math.isnan(price.largest_share)
    points = np.array([0.1, 0.5])
    assert np.isposinf(price.mean(points)).all()
    assert np.isposinf(price.draws(points, 3, np.random.default_rng(0))).all()


def test_without_an_edge_the_reason_names_the_width() -> None:
    price = rate_price(planted(np.random.default_rng(9), curve(0.02)), lambda width: None, "accuracy", "fraction")
    assert price is not None and "width 128" in price.reason


def test_cells_without_the_seeds_of_the_others_are_left_out() -> None:
    runs = planted(np.random.default_rng(10), curve(0.02))
    price = measured(runs[(runs.batch_size != 16) | (runs.seed == 0)])
    assert [cell.batch_size for cell in price.cells] == [8, 32]
    price = measured(runs[(runs.batch_size != 16) | (runs.seed < 3)])
    assert [cell.seeds for cell in price.cells] == [3, 3, 3]


def test_only_cells_at_one_noise_and_the_largest_width_are_compared() -> None:
    runs = planted(np.random.default_rng(11), curve(0.02))
    others = planted(np.random.default_rng(12), curve(0.3), seeds=3).assign(noise_scale=1450.0)
    narrow = planted(np.random.default_rng(13), curve(0.3), seeds=9).assign(width=64)
    assert as_json(measured(pd.concat([others, runs, narrow]))) == as_json(measured(runs))


def test_a_fit_has_the_price_of_its_group(make_study: Callable[..., Any]) -> None:
    study = make_study(rates=(2.0,), seeds=5)
    assert fit(study).groups[0].rate_price is None
    template = study.table[study.table.width == 256].iloc[0]
    # The planted edge at width 256 is 24·B/(B + 4).
    runs = planted(np.random.default_rng(14), curve(0.02)).assign(purpose="price", width=256, status="completed")
    runs["learning_rate"] = np.tile(SHARES, 5) * 24 * runs.batch_size / (runs.batch_size + 4)
    constants = {name: template[name] for name in study.table.columns if name not in runs}
    table = pd.concat([study.table, runs.assign(**constants)], ignore_index=True)
    result, plain = fit(type(study)(study.spec, table)), fit(study)
    price = result.groups[0].rate_price
    assert price is not None and len(price.cells) == 3
    # The edge is measured with a ladder of a fourth root of 2 and eight seeds.
    assert [cell.share.value for cell in price.cells] == pytest.approx(SHARES, rel=0.15)
    priced, unpriced = (values.as_json() for values in (result, plain))
    values = priced["groups"][0].pop("rate_price")  # type: ignore[index]
    assert set(values) == {"cells", "reason", "largest_share", "at_half", "exponent"}
    assert unpriced["groups"][0].pop("rate_price") is None  # type: ignore[index]
    assert priced == unpriced, "the cells of the price enter nothing else"


def test_a_rate_at_the_limit_is_supported_and_has_a_price() -> None:
    runs = planted(np.random.default_rng(4), lambda share: 0.0, shares=(0.2, 0.31, 0.45))
    measured = rate_price(runs, edge_at, "accuracy", "fraction")
    assert measured is not None and measured.largest_share == pytest.approx(0.45)
    for price in (measured, None):
        share = 0.3 if price is None else measured.largest_share
        limits = Limits((1.0, 1e4), (1e-3, 1e6), share, EDGE, price)
        for batch in range(4, 400):
            rate = limits.highest(batch)
            rung = make_rung(batch, exact(rate, "1"), EDGE, 100)
            assert limits.fault(rung) == ""
            prices = limits.price_of(rate, rung.stability_edge.value, 10)
            assert prices is not None and np.isfinite(prices).all()
            # A little above the limit, the rate is not supported, and its price is not known.
            above = make_rung(batch, exact(1.001 * rate, "1"), EDGE, 100)
            assert limits.fault(above) and limits.price_of(1.001 * rate, above.stability_edge.value, 10) is None
