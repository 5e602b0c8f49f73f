"""Studies that compare budgets and training sizes: a group for each, and recommendations for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from noisescale.errors import BadInput
from noisescale.laws import fit, recommend
from noisescale.report.tables import fit_table_data

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def study(make_study: Make) -> Any:
    """Two budgets; with the longer one, the metric is better by a hundredth."""
    parts = [
        make_study(rates=(2.0,), widths=(16, 32, 64), seeds=3, steps=steps, random_seed=steps) for steps in (1000, 4000)
    ]
    longer = parts[1].runs()
    longer["test_accuracy"] += 0.01
    spec = {**parts[0].spec, "grid": {"steps": [1000, 4000]}, "training": {"sampling": "epoch_shuffle"}}
    return replace(parts[0], spec=spec, table=pd.concat([parts[0].runs(), longer], ignore_index=True))


def test_each_budget_has_its_optima(study: Any) -> None:
    fitted = fit(study)
    assert [group.hyperparameters["steps"] for group in fitted.groups] == [1000, 4000]
    assert all(group.varied == {"steps": group.hyperparameters["steps"]} for group in fitted.groups)
    heights = [group.series[0].widths[0].optima["accuracy"].height.value for group in fitted.groups]
    assert heights[1] - heights[0] == pytest.approx(0.01, abs=0.005)


def test_the_largest_budget_is_recommended_and_said(study: Any) -> None:
    recommendation = recommend(study, 128)
    # The noise law keeps ε·steps.
    assert recommendation.steps * recommendation.learning_rate.value == pytest.approx(4000 * 2.0, rel=1e-3)
    assert any("the largest number of steps of the study, 4000 of 1000, 4000" in line for line in recommendation.basis)


def test_a_trained_budget_may_be_asked_for(study: Any) -> None:
    assert recommend(study, 128, steps=1000).steps == 1000
    near = recommend(study, 128, steps=1000)
    assert any("ε·steps" in line for line in near.warnings)
    asked = recommend(study, 128, examples=int(0.6 * 1000 * near.batch_size))
    assert asked.steps * asked.batch_size == pytest.approx(0.6 * 1000 * near.batch_size, rel=0.01)
    assert any("number of steps 1000" in line or "steps 1000" in line for line in asked.basis)
    with pytest.raises(BadInput, match=r"^--steps: one of the trained values \(1000, 4000\)\. Got: 2000"):
        recommend(study, 128, steps=2000)
    with pytest.raises(BadInput, match=r"^--set steps: one of the trained values \(1000, 4000\)\. Got: 2000"):
        recommend(study, 128, held={"steps": 2000})
    with pytest.raises(BadInput, match="--examples: within a factor of 1.5"):
        recommend(study, 128, examples=10)
    with pytest.raises(BadInput, match="--train-size: left out, because the study compares no such sizes"):
        recommend(study, 128, train_size=100)


def test_warnings_name_their_group(study: Any) -> None:
    table = study.runs()
    short = table["steps"] == 1000
    # The shorter runs learn nothing, and have no law.
    for name in ("test_accuracy", "validation_accuracy"):
        table[name] = table[name].where(~short, 0.1 + 0.001 * table["seed"])
    warnings = fit(replace(study, table=table)).warnings
    assert any(text.startswith("ntk, steps 1000: no cell beats the constant predictor") for text in warnings)
    inconclusive = [text for text in warnings if "the law is inconclusive" in text]
    assert inconclusive and all("ntk, steps 1000: " in text for text in inconclusive)


def test_sizes_are_whole_numbers(study: Any) -> None:
    table = study.runs()
    large = table.assign(steps=table["steps"] * 1000)
    large = replace(study, spec={**study.spec, "grid": {"steps": [1_000_000, 4_000_000]}}, table=large)
    for each, smaller, larger in ((study, "1000", "4000"), (large, "1000000", "4000000")):
        fitted = fit(each)
        titles = " ".join(data.title for data in fit_table_data(fitted))
        assert f"steps {smaller}," in titles and f"steps {larger}," in titles
        basis = " ".join(recommend(fitted, 128).basis)
        assert f"{larger} of {smaller}, {larger}" in basis and f"steps {larger}" in basis
    assert fit_table_data(fit(large))[-1].rows[0][1] == "1,000,000"


def test_the_table_has_the_best_setting_of_each_width_and_budget(study: Any) -> None:
    table = fit_table_data(fit(study))[-1]
    assert table.title == "Best trained setting over all groups" and table.columns[:4] == ("width", "steps", "ε", "B")
    assert [row[:2] for row in table.rows] == [
        (width, steps) for width in ("16", "32", "64") for steps in ("1,000", "4,000")
    ]


def test_each_training_size_has_its_optima(make_study: Make) -> None:
    part = make_study(rates=(2.0,), widths=(16, 32, 64), seeds=3)
    smaller = part.runs().assign(train_size=2000)
    for name in ("noise_scale", "normalized_noise_scale"):
        smaller[name] = smaller[name] / (4000 / smaller["batch_size"] - 1) * (2000 / smaller["batch_size"] - 1)
    both = replace(part, table=pd.concat([part.runs(), smaller], ignore_index=True))
    fitted = fit(both)
    assert [group.hyperparameters["train_size"] for group in fitted.groups] == [4000, 2000]
    assert recommend(both, 64, train_size=2000).train_size == 2000
    assert recommend(both, 64).train_size == 4000


def test_extended_budgets_belong_to_the_largest(study: Any) -> None:
    table = study.runs()
    table.loc[(table.steps == 4000) & (table.purpose == "sweep"), "steps"] = 8000
    fitted = fit(replace(study, table=table))
    assert [group.hyperparameters["steps"] for group in fitted.groups] == [1000, 4000]
    assert {row.steps for row in fitted.groups[1].series[0].widths} == {8000}
