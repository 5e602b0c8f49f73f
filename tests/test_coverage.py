"""A short form of `make coverage`; the long form draws many more, and compares with version 0.1.

Tolerances: a coverage of 0.94 is 0.87 at three standard errors below over 96 draws.
"""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    # At the end of the path, so that these modules do not hide those of libraries.
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    names = ("worlds", "reference", "kinds", "table")
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
