"""A short form of `make coverage`; the long form draws many more, and compares with version 0.1.

Tolerances: a coverage of 0.94 is 0.87 at three standard errors below over 96 draws.
"""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisescale.laws import fit
from noisescale.laws.expected_metrics import prospect
from noisescale.laws.optimum_at_width import optimum_at_width

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    # At the end of the path, so that these modules do not hide those of libraries.
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    names = ("worlds", "reference", "kinds", "table", "law_worlds", "law_kinds")
    return SimpleNamespace(**{name: importlib.import_module(f"coverage_{name}") for name in names})


def test_optima_are_covered_on_worlds_of_several_kinds(coverage: SimpleNamespace) -> None:
    covered, reference = [], []
    for kind in ("tent, tip 0.12", "skewed peak", "cliff", "blown-up cells"):
        answers = coverage.kinds.measure_kind(kind, count=1, seed=2)
        assert len(answers) == 24 and not any(answer.faults for answer in answers)
        rows = coverage.kinds.kind_rows(answers)
        assert [row.quantity for row in rows] == ["optimum", "peak height"] and rows[0].draws == 24
        covered.append([row.coverage for row in rows])
        reference.append([row.reference_coverage for row in rows])
    assert np.mean(covered, axis=0) == pytest.approx(1, abs=0.13)
    # Three kinds have a well-specified model, with 72 draws.
    assert np.nanmean(reference, axis=0) == pytest.approx(1, abs=0.14)


def test_the_truth_of_a_world_is_the_maximum_of_the_mean_of_many_runs(coverage: SimpleNamespace) -> None:
    for kind in ("edge of failures", "seeds with shifted optima", "failures anywhere", "shoulder", "plateau"):
        world = coverage.worlds.WORLDS[kind]
        generator = np.random.default_rng(3)
        draw = world.draw(generator, coverage.worlds.Design("√2", 0.003, 100_000))
        mean = draw.y.mean(axis=0)
        offset, _ = world.optimum
        # Four standard errors of the mean of runs whose standard deviation is at most 0.25.
        assert np.abs(mean - world.expected(draw.x - draw.place + offset)).max() < 0.0032
        assert draw.height >= mean.max() - 0.0032


def test_draws_do_not_depend_on_the_process(coverage: SimpleNamespace) -> None:
    design = coverage.worlds.DESIGNS[7]
    first, second = (coverage.worlds.draws("cliff", design, 2, seed=4) for _ in range(2))
    assert all(np.array_equal(a.y, b.y) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0].y, first[1].y)


def test_open_intervals_and_missing_ones_are_misses_where_the_well_specified_model_has_one(
    coverage: SimpleNamespace,
) -> None:
    def covered(low: float, high: float, reference: float) -> bool:
        intervals = np.array([[[low, high], [0.5, 0.7]]])
        answers = coverage.kinds.Answers(
            "cliff", coverage.worlds.DESIGNS[0], np.array([[0.0, 0.6]]), np.array([0]), intervals,
            np.full((1, 2, 2), reference), None, np.array([False]), None,
        )  # fmt: skip
        return bool(answers.covered(0)[0])

    assert covered(-1, 1, 0.0) and covered(-1, 1, math.nan)
    assert not covered(0.5, 1, 0.0)
    assert covered(-math.inf, 1, math.nan) and not covered(-math.inf, 1, 0.0)
    assert not covered(math.nan, math.nan, math.nan)


def test_the_verdict_is_an_exact_binomial_test(coverage: SimpleNamespace) -> None:
    assert coverage.kinds.verdict(950, 1000) == ""
    assert coverage.kinds.verdict(910, 1000) == "**too low**"
    # Four standard errors above 0.985 are 1000.
    assert coverage.kinds.verdict(1000, 1000) == "**too high**"
    assert coverage.kinds.verdict(40, 40) == ""


def test_the_laws_of_planted_families_are_those_of_fit_and_recommend(coverage: SimpleNamespace) -> None:
    world, design = coverage.law_worlds.LAW_WORLDS["failures anywhere"], coverage.law_worlds.LAW_DESIGNS[0]
    (draw,) = coverage.law_worlds.law_draws("failures anywhere", design, 1, seed=1)
    curves = coverage.law_kinds.fitted_curves(draw)
    law = coverage.law_kinds.fitted_law(curves)
    fitted = fit(_study(draw))
    (series,) = fitted.groups[0].series
    expected = series.laws["accuracy"].normalized_noise_scale
    assert law.status == expected.status == "ok"
    assert law.slope.interval == pytest.approx(expected.slope.interval, rel=1e-6)
    target = world.targets[0]
    assert law.at(target).interval == pytest.approx(expected.at(target).interval, rel=1e-6)
    x, regret, bound = coverage.law_kinds.decision(law.posterior, curves, target)
    optimum = optimum_at_width(series, "accuracy", target, fitted.groups[0])
    assert math.exp(x) == pytest.approx(optimum.value.value, rel=1e-6)
    estimate = prospect(optimum.outlook, math.log(optimum.value.value)).regret("accuracy", "1", "")
    assert (regret, bound) == pytest.approx((estimate.value, estimate.high), rel=1e-6)
    assert draw.regret(target, draw.optima[target]) == 0 < draw.regret(target, draw.optima[target] + 0.1)


def _study(draw: Any) -> SimpleNamespace:
    """Return a study with the runs of a draw, of which the rate is fixed."""
    rate, size, rows = 0.001, 4000, []
    for width, (y, failed) in draw.tables.items():
        for (seed, cell), accuracy in np.ndenumerate(y):
            noise = math.exp(draw.x[cell])
            row = {
                "purpose": "sweep", "parameterization": "ntk", "width": width, "learning_rate": rate,
                "batch_size": size / (noise / rate + 1), "momentum": 0.0, "weight_decay": 0.0, "init_scale": 2.0,
                "label_noise": 0.0, "seed": seed, "steps": 5000, "train_size": size, "collapsed": False, "late": True,
                "status": "diverged" if failed[seed, cell] else "completed", "chance_accuracy": 0.1,
                "test_accuracy": math.nan if failed[seed, cell] else accuracy, "noise_scale": noise,
                "normalized_noise_scale": noise, "temperature": rate,
            }  # fmt: skip
            rows.append(row)
    spec = {"name": "planted", "fit": {"select_on": "test", "metric": "accuracy"}, "grid": {}}
    training = {"steps": 5000, "epochs": None, "sampling": "epoch_shuffle"}
    return SimpleNamespace(spec={**spec, "training": training}, runs=lambda: pd.DataFrame(rows))


def test_the_truth_of_a_family_is_that_of_its_curves_and_its_law(coverage: SimpleNamespace) -> None:
    for kind, world in coverage.law_worlds.LAW_WORLDS.items():
        # The curve of every family has its maximum at the planted optimum.
        assert world.curve.optimum[0] == pytest.approx(0, abs=2e-4), kind
        for design in coverage.law_worlds.LAW_DESIGNS:
            (draw,) = coverage.law_worlds.law_draws(kind, design, 1, seed=5)
            assert set(draw.tables) == set(world.widths) and set(draw.optima) > set(world.widths)
    saturating = coverage.law_worlds.LAW_WORLDS["saturating in two octaves"]
    exponents = [saturating.exponent(math.log(width)) for width in (16, 64, 256)]
    assert exponents == pytest.approx([0.99, 0.5, 0.01], abs=0.01)


@pytest.mark.full
def test_laws_over_widths_are_covered_on_families_of_several_kinds(coverage: SimpleNamespace) -> None:
    covered = []
    for kind in ("tent, scatter 0.1", "parabola", "three widths", "saturating in three octaves"):
        answers = coverage.law_kinds.measure_law_kind(kind, count=1, seed=3)
        rows = coverage.law_kinds.law_kind_rows(answers)
        assert len(rows) == len(coverage.law_kinds.QUANTITIES) + 1 and rows[0].draws == 4
        assert not any(answer.fault for design in answers for answer in design.rows)
        covered.append([row.coverage for row in rows])
    # 0.95 over 16 draws is 0.79 at three standard errors below.
    assert np.mean(covered, axis=0) == pytest.approx(1, abs=0.21)
