from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import nn

from noisescale.errors import BadInput
from noisescale.laws import Fit, fit, recommend
from noisescale.laws.rungs import trainable
from noisescale.store import AcceptedBatches, Study

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def fitted(make_study: Make) -> Fit:
    """Return the fit of the planted study at the rate 2, which many tests ask for different widths."""
    return fit(make_study(rates=(2.0,)))


def test_the_noise_at_a_new_width_follows_the_law(fitted: Fit) -> None:
    recommendation = recommend(fitted, width=256)
    assert recommendation.normalized_noise_scale.covers(4000)
    assert recommendation.normalized_noise_scale.value == pytest.approx(4000, rel=0.1)
    rate, batch = recommendation.learning_rate.value, recommendation.batch_size
    assert rate * (4000 / batch - 1) == pytest.approx(recommendation.noise_scale.value)
    assert recommendation.temperature.value == pytest.approx(rate / batch)
    # The training time ε·steps of the study is 2 × 5000.
    assert rate * recommendation.steps == pytest.approx(10_000, rel=1e-3)
    json.dumps(recommendation.as_json(), allow_nan=False)


def test_a_normalized_noise_scale_that_one_width_lacks_is_not_recommended(make_study: Make) -> None:
    study = make_study(rates=(2.0,), parameterization="standard")
    runs = study.table
    runs.loc[runs.width == runs.width.min(), "normalized_noise_scale"] = math.nan
    recommendation = recommend(study, width=512)
    assert recommendation.noise_scale.value > 0
    assert math.isnan(recommendation.normalized_noise_scale.value)


def test_the_default_is_the_largest_batch_whose_rate_has_no_price(fitted: Fit) -> None:
    recommendation = recommend(fitted, width=96)
    allowed = [
        rung
        for rung in recommendation.ladder
        if rung.stable and rung.learning_rate.value <= min(0.3 * rung.stability_edge.value, 4 * 2.0)
    ]
    assert recommendation.batch_size == max(rung.batch_size for rung in allowed)
    assert recommendation.batch_size > 5
    assert recommendation.learning_rate.value <= 0.3 * recommendation.stability_edge.value
    assert recommendation.learning_rate.high <= recommendation.stability_edge.value


def test_no_batch_and_no_rate_far_from_the_trained_ones_is_recommended(make_study: Make) -> None:
    recommendation = recommend(make_study(batches=(1, 2, 3, 4, 6, 8, 11)), width=64)
    assert recommendation.learning_rate.value <= 4 * 1.0
    assert recommendation.batch_size <= 2 * 11


def test_every_rung_has_the_same_noise(fitted: Fit) -> None:
    recommendation = recommend(fitted, width=100)
    noise = recommendation.noise_scale.value
    for rung in recommendation.ladder:
        assert rung.learning_rate.value * (4000 / rung.batch_size - 1) == pytest.approx(noise)


def test_a_given_batch_size_is_kept_with_a_warning_if_unstable(fitted: Fit) -> None:
    recommendation = recommend(fitted, width=256, batch_size=8)
    assert recommendation.batch_size == 8 and len(recommendation.ladder) == 1
    dangerous = recommend(fitted, width=256, batch_size=512)
    assert any("stability edge" in warning for warning in dangerous.warnings)


def test_the_standard_parameterization_converts_noise_at_the_new_width(make_study: Make) -> None:
    recommendation = recommend(make_study(parameterization="standard", rates=(0.25,)), width=512)
    # ḡ = g·width/2, so g is constant while ḡ grows.
    assert recommendation.normalized_noise_scale.value == pytest.approx(8000, rel=0.15)
    assert recommendation.noise_scale.value == pytest.approx(8000 * 2 / 512, rel=0.15)


def test_a_width_far_outside_warns(fitted: Fit) -> None:
    assert not any("outside" in warning for warning in recommend(fitted, width=512).warnings)
    assert any("outside" in warning for warning in recommend(fitted, width=2048).warnings)


def test_without_a_law_the_nearest_width_is_used_with_a_warning(make_study: Make) -> None:
    recommendation = recommend(make_study(rates=(2.0,), widths=(32, 64)), width=128)
    assert any("inconclusive" in warning for warning in recommendation.warnings)
    assert recommendation.normalized_noise_scale.value == pytest.approx(1000, rel=0.15)
    assert "64" in recommendation.basis[0]


def test_without_an_edge_the_trained_rates_limit_the_choice(make_study: Make) -> None:
    recommendation = recommend(make_study(rates=(2.0,), stability=False), width=96)
    assert recommendation.learning_rate.value <= 2.0
    assert math.isnan(recommendation.stability_edge.value)
    assert any("no stability" in warning for warning in recommendation.warnings)


def test_a_given_batch_without_an_edge_warns(make_study: Make) -> None:
    recommendation = recommend(make_study(rates=(2.0,), stability=False), width=96, batch_size=16)
    assert any("not known" in warning for warning in recommendation.warnings)


def test_a_rate_above_the_trained_rates_warns(fitted: Fit) -> None:
    above = recommend(fitted, width=96, batch_size=16)
    assert above.learning_rate.value > 2.0 and any("above 2" in warning for warning in above.warnings)
    below = recommend(fitted, width=96, batch_size=2)
    assert below.learning_rate.value < 2.0 and not any("above 2" in warning for warning in below.warnings)


def test_a_width_where_noise_does_not_help_uses_its_curve_down_to_the_lowest_cell(make_study: Make) -> None:
    study = make_study(rates=(2.0,), widths=(32, 64, 128, 256, 512), batches=(1, 2, 3, 4, 6, 8, 11, 16))
    bound = recommend(study, width=32)
    assert bound.basis[0].startswith("curve measured at width 32, down to its lowest cell")
    assert sum("may lie below the grid" in warning for warning in bound.warnings) == 1
    assert not any("lies outside" in warning for warning in bound.warnings)
    # The lowest trained noise scale is that of ε = 2 and B = 16, whose accuracy is the best of this width.
    runs = study.table[(study.table.purpose == "sweep") & (study.table.width == 32)]
    means = runs.groupby("normalized_noise_scale").test_accuracy.mean()
    assert means.idxmax() == means.index[0]
    assert bound.normalized_noise_scale.value == pytest.approx(means.index[0], rel=0.1)
    assert bound.normalized_noise_scale.value >= means.index[0] * (1 - 1e-9)
    assert bound.expected_metric.value == pytest.approx(means.iloc[0], abs=0.004)
    assert 0 <= bound.expected_regret.value < 0.005
    # The law holds only for widths at which noise helps. At smaller widths no law is known.
    for width in (24, 33, 48):
        recommendation = recommend(study, width=width)
        assert any(
            "at width 32" in warning and "may lie below the grid" in warning for warning in recommendation.warnings
        )
    assert any("width 48 lies outside" in warning for warning in recommendation.warnings)
    above = recommend(study, width=200)
    assert not any("may lie below the grid" in warning for warning in above.warnings)


def test_the_basis_names_the_chosen_group(make_study: Make) -> None:
    study = make_study()
    assert len(recommend(study, width=96).basis) == 2
    rows = pd.concat([study.table, make_study(parameterization="standard").table], ignore_index=True)
    two = recommend(replace(study, table=rows), width=96)
    assert "of 2 groups: parameterization " in two.basis[2] and "points better than parameterization " in two.basis[2]
    assert two.basis[2].startswith("the group with the best ")


def test_a_study_at_fixed_epochs_keeps_the_epochs(make_study: Make) -> None:
    recommendation = recommend(make_study(rates=(2.0,), steps=None, epochs=20), width=512, batch_size=8)
    assert recommendation.steps == 20 * (4000 // 8)


def test_a_fit_gives_the_same_recommendation_as_its_study(make_study: Make) -> None:
    study = make_study(rates=(2.0,))
    assert recommend(fit(study), width=512).as_json() == recommend(study, width=512).as_json()


def test_the_parameterization_can_be_chosen(make_study: Make) -> None:
    first, second = make_study(rates=(2.0,)), make_study(rates=(0.25,), parameterization="standard")
    both = fit(replace(first, table=pd.concat([first.table, second.table], ignore_index=True)))
    chosen = recommend(both, 128, parameterization="standard")
    assert chosen.parameterization == "standard" and "of those with the given hyperparameters" in chosen.basis[2]
    with pytest.raises(BadInput, match="parameterization"):
        recommend(both, 128, parameterization="mup")


def test_the_recommendation_carries_base_width_and_query_rows(make_study: Make, fitted: Fit) -> None:
    planted = make_study(parameterization="mup", rates=(0.25,))
    study = replace(planted, table=planted.table.assign(base_width=16, query_rows="query.weight"))
    recommendation = recommend(study, width=512)
    assert (recommendation.base_width, recommendation.query_rows) == (16, ("query.weight",))
    assert recommendation.as_json()["base_width"] == 16
    assert recommend(fitted, width=512).base_width is None
    # In a study of two parameterizations, the columns of mup are empty in the ntk rows.
    ntk = make_study(rates=(2.0,))
    both = replace(ntk, table=pd.concat([ntk.table.assign(base_width=None, query_rows=""), study.table]))
    assert set(fit(both).groups[0].varied) == {"parameterization"}
    assert recommend(both, 128, parameterization="ntk").base_width is None
    assert recommend(both, 128, parameterization="mup").base_width == 16


def attention(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.ModuleDict(
        {"query": nn.Linear(shape[0], width), "hidden": nn.Linear(width, width), "out": nn.Linear(width, classes)}
    )


@pytest.mark.parametrize("width", [512, 16])
def test_parameter_groups_use_the_base_width_of_the_study(make_study: Make, width: int) -> None:
    planted = make_study(parameterization="mup", rates=(0.25,))
    study = replace(planted, table=planted.table.assign(base_width=16, query_rows="query.weight"))
    recommendation = replace(recommend(study, width=width), input_shape=(5,), num_outputs=3)
    groups = recommendation.parameter_groups(attention, seed=3)
    rate, ratio = recommendation.learning_rate.value, width / 16
    multipliers = {name: 1.0 for name in ("query.weight", "query.bias", "hidden.weight", "out.bias")}
    multipliers |= {"hidden.bias": ratio, "out.weight": 1 / ratio}
    for name, tensor in groups.model.named_parameters():
        (group_rate,) = [group["lr"] for group in groups if any(tensor is member for member in group["params"])]
        assert group_rate == pytest.approx(rate * multipliers[name], rel=1e-12)


def test_a_recommendation_without_a_noise_scale_holds_at_its_batch_size_only(make_study: Make) -> None:
    study = make_study(rates=[0.25 * 2 ** (k / 2) for k in range(11)], batches=(16,), stability=False)
    study.table["optimizer"] = "adamw"
    for name in ("noise_scale", "normalized_noise_scale", "temperature", "momentum"):
        study.table[name] = math.nan if name != "momentum" else 0.0
    for name, value in (("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8)):
        study.table[name] = value
    recommendation = recommend(study, width=256)
    assert math.isnan(recommendation.normalized_noise_scale.value)
    assert recommendation.normalized_noise_scale.convention.startswith("the optimizer has no noise scale")
    text = " ".join(recommendation.validity)
    assert "holds only at B = 16" in text and "momentum" not in text and "keep ε·steps" not in text


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"width": 0}, "width"),
        ({"width": 64, "batch_size": 0}, "batch_size"),
        ({"width": 64, "batch_size": 4000}, "batch_size"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict[str, Any], name: str, make_study: Make) -> None:
    with pytest.raises(BadInput, match=name):
        recommend(make_study(rates=(2.0,), widths=(32, 64)), **arguments)


def test_without_a_law_the_best_trained_cell_of_the_nearest_width_comes_first(make_study: Make) -> None:
    study = make_study(widths=(32, 64), seeds=2)
    recommendation = recommend(study, width=256)
    runs = study.table[(study.table.purpose == "sweep") & (study.table.width == 64)]
    means = runs.groupby(["learning_rate", "batch_size"]).test_accuracy.mean()
    rate, batch = means.idxmax()
    assert recommendation.batch_size == batch
    assert recommendation.learning_rate.value == pytest.approx(rate, rel=1e-6)
    assert math.isnan(recommendation.learning_rate.low) and math.isnan(recommendation.noise_scale.high)
    assert f"B = {batch:g}" in recommendation.basis[0] and "width 64" in recommendation.basis[0]
    (rules,) = [warning for warning in recommendation.warnings if "in proportion to width" in warning]
    assert f"B = {batch / 4:.3g}" in rules


def test_a_preference_that_needs_a_law_says_that_it_is_not_used(make_study: Make) -> None:
    study = fit(make_study(widths=(32, 64), seeds=2))
    text = "the preference for steps is not used"
    assert any(text in warning for warning in recommend(study, 256, prefer="steps").warnings)
    assert not any(text in warning for warning in recommend(study, 256, 8, prefer="steps").warnings)
    assert not any("preference" in warning for warning in recommend(study, 256).warnings)


def test_a_study_that_has_not_converged_is_told_to_train_longer(make_study: Make) -> None:
    warnings = recommend(make_study(late=lambda width, noise: False), 512).warnings
    (text,) = [warning for warning in warnings if "inconclusive" in warning]
    assert "train longer" in text and "widths 16, 32, 64, 128, 256" in text and "add" not in text


def test_expectations_have_the_unit_of_the_loss(make_study: Make) -> None:
    study = make_study(rates=(2.0,), metric="loss")
    study.spec["training"]["loss"] = "mse"
    recommendation = recommend(study, 512)
    for value in (recommendation.expected_metric, recommendation.expected_regret):
        assert math.isfinite(value.value) and value.unit == "squared error"
    assert {rung.expected_metric.unit for rung in recommendation.ladder} == {"squared error"}


def test_only_batch_sizes_that_the_normalization_allows_are_recommended(tmp_path: Path) -> None:
    ghosts = Study(tmp_path, {"model": {"normalization": "ghost_batch", "ghost_size": 16}})
    assert trainable([1, 8, 16, 23, 32], ghosts, False) == [8, 16, 32]
    with pytest.raises(BadInput, match="batch_size"):
        trainable([23], ghosts, True)
    assert trainable([1, 2], Study(tmp_path, {}), False) == [1, 2]


def test_only_batch_sizes_that_the_recorded_model_accepts_are_recommended(tmp_path: Path) -> None:
    spec = {"model": {"family": "own:model"}, "grid": {"batch_size": [8, 32]}}
    study = Study(tmp_path, spec)
    # Without a record, only batches from the smallest trained one on are known to work. A user may know better.
    assert trainable([1, 4, 8, 16], study, False) == [8, 16]
    assert trainable([1], study, True) == [1]
    accepted = AcceptedBatches(2, (12,), "ValueError: Expected more than 1 value per channel when training")
    (tmp_path / "model.json").write_text(accepted.text())
    assert study.accepted_batches() == accepted
    assert trainable([1, 2, 4, 16, 24], study, False) == [2, 4, 24]
    with pytest.raises(BadInput, match=r"at least 2 examples \(with fewer it raises ValueError: Expected more than 1"):
        trainable([1], study, True)
    with pytest.raises(BadInput, match="multiples of its ghost size 12"):
        trainable([16], study, True)
    (tmp_path / "model.json").write_text('{"smallest": 0, "ghost_sizes": [], "error": ""}')
    with pytest.raises(BadInput, match=r"model\.json"):
        trainable([1], study, True)


def test_the_batch_size_of_the_best_cell_is_kept_whatever_the_record_says(make_study: Make, tmp_path: Path) -> None:
    planted = make_study(widths=(32, 64), seeds=2)

    class Recorded(Study):
        def runs(self) -> pd.DataFrame:
            return planted.runs()

        def data_shape(self) -> tuple[tuple[int, ...], int]:
            return (5,), 3

    (tmp_path / "model.json").write_text(AcceptedBatches(300, (), "ValueError: too few").text())
    study = Recorded(tmp_path, planted.spec)
    best = recommend(planted, 64)
    assert recommend(study, 64).batch_size == best.batch_size < 300


def test_the_preference_and_the_tolerance_are_checked(fitted: Fit) -> None:
    with pytest.raises(BadInput, match="prefer"):
        recommend(fitted, 128, prefer="speed")
    with pytest.raises(BadInput, match="tolerance"):
        recommend(fitted, 128, tolerance=0)
    with pytest.raises(BadInput, match="prefer"):
        recommend(fitted, 128, prefer="time")  # the planted runs have no times
    assert recommend(fitted, 128, prefer="steps").prefer == "steps"


def test_every_rung_has_an_expected_metric_and_an_expected_regret(fitted: Fit) -> None:
    recommendation = recommend(fitted, width=256)
    for rung in recommendation.ladder:
        metric = rung.expected_metric
        if rung.learning_rate.value > 0.3 * 1.05 * rung.stability_edge.value:
            # Above 0.3 of the edge a rate has a price, which this study did not measure.
            assert math.isnan(metric.value) and rung.reason
            continue
        assert metric.run_low < metric.low < metric.value < metric.high < metric.run_high
        assert 0 < rung.expected_regret.value < rung.expected_regret.high < recommendation.span
    chosen = next(rung for rung in recommendation.ladder if rung.batch_size == recommendation.batch_size)
    assert not chosen.reason
    assert recommendation.expected_metric == chosen.expected_metric


def test_held_hyperparameters_choose_the_group(make_study: Make) -> None:
    first, second = make_study(rates=(2.0,)), make_study(rates=(2.0,))
    second.table["momentum"] = 0.5
    both = fit(replace(first, table=pd.concat([first.table, second.table], ignore_index=True)))
    for momentum in (0.0, 0.5, "0.5"):
        assert recommend(both, 128, held={"momentum": momentum}).momentum == float(momentum)
    with pytest.raises(BadInput, match="momentum"):
        recommend(both, 128, held={"momentum": 0.9})


def test_where_no_supported_setting_has_the_noise_the_nearest_rate_is_taken(fitted: Fit) -> None:
    # At width 512 equal noise needs 0.41 of the stability edge even with a batch of one example.
    recommendation = recommend(fitted, width=512)
    assert recommendation.batch_size == 1
    assert recommendation.learning_rate.value == pytest.approx(0.3 * recommendation.stability_edge.value)
    assert any("nearest rate" in warning for warning in recommendation.warnings)
    assert recommendation.normalized_noise_scale.value < 8000
    # The interval is that of the optimum, so it stands beside the optimum and not beside another value.
    noise_scales = (recommendation.normalized_noise_scale, recommendation.noise_scale, recommendation.temperature)
    assert all(math.isnan(noise.low) and math.isnan(noise.high) for noise in noise_scales)
    (text,) = [warning for warning in recommendation.warnings if "nearest rate" in warning]
    optimum, low, high = map(float, re.search(r"regret, (\S+) \[(\S+), (\S+)\]", text).groups())
    assert low < optimum < high and recommendation.normalized_noise_scale.value < optimum and high > 7000
    free = recommend(fitted, width=256)
    assert recommendation.expected_regret.value > free.expected_regret.value
