from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noisescale.errors import BadInput
from noisescale.runs import Run, RunResult
from noisescale.store import Study, write_shard

MakeRun = Callable[..., Run]
MakeResult = Callable[..., RunResult]

COLUMNS = (
    "run_id, pack_id, dataset, dataset_hash, family, parameterization, width, learning_rate, batch_size, momentum, "
    "weight_decay, seed, steps, epochs, train_size, status, diverged_at_step, collapsed, late, test_accuracy, "
    "test_loss, validation_accuracy, validation_loss, train_accuracy, train_loss, final_test_accuracy, "
    "best_test_accuracy, noise_scale, temperature, normalized_noise_scale, reference_layer, reference_fan_in, "
    "init_variance, seconds, device, threads, precision, versions, depth, activation, normalization, init_scale, "
    "label_noise, schedule, evaluations, late_fraction, loss, sampling, purpose, chance_accuracy, chance_loss, "
    "drift_test_accuracy"
).split(", ")


def study_of(folder: Path, results: list[RunResult]) -> Study:
    (folder / "shards").mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({"name": "planted"}))
    if results:
        write_shard(folder / "shards", "a", results)
    return Study.open(folder)


def test_runs_have_every_column_of_the_contract(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    runs = study_of(tmp_path, [make_result(make_run())]).runs()
    assert [name for name in COLUMNS if name not in runs] == []


def test_the_columns_of_noise_follow_their_definitions(
    tmp_path: Path, make_run: MakeRun, make_result: MakeResult
) -> None:
    shuffled = make_run(learning_rate=0.5, batch_size=32, momentum=0.5)
    replaced = make_run(learning_rate=0.5, batch_size=32, momentum=0.5, sampling="with_replacement")
    runs = study_of(tmp_path, [make_result(shuffled), make_result(replaced)]).runs()
    assert runs.noise_scale.tolist() == pytest.approx([0.5 * (1000 / 32 - 1) / 0.5, 0.5 * 1000 / 32 / 0.5])
    assert runs.temperature.tolist() == pytest.approx([0.5 / (32 * 0.5)] * 2)
    assert runs.epochs.tolist() == pytest.approx([100 * 32 / 1000] * 2)
    assert runs.normalized_noise_scale.tolist() == [4.0, 4.0]
    assert runs.reference_layer.tolist() == ["3.weight"] * 2
    assert runs.reference_fan_in.tolist() == [16, 16]


def test_curves_and_layers_are_long_tables(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    results = [make_result(make_run(seed=0)), make_result(make_run(seed=1, purpose="stability"))]
    study = study_of(tmp_path, results)
    curves = study.curves()
    assert len(curves) == 2 * 3
    assert list(curves.columns[:5]) == ["run_id", "step", "epoch", "learning_rate", "batch_size"]
    assert curves.step.tolist() == [0, 50, 100] * 2
    assert curves.epoch.tolist() == pytest.approx([0, 1.6, 3.2] * 2)
    assert curves.test_accuracy.isna().tolist() == [False] * 3 + [True] * 3
    layers = study.layers()
    assert len(layers) == 2 * 2
    assert set(layers.columns) == {
        "run_id", "layer", "fan_in", "init_variance", "multiplier", "normalized_noise_scale", "is_reference",
    }  # fmt: skip


def test_a_run_in_two_shards_counts_once(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    study = study_of(tmp_path, [make_result(make_run())])
    write_shard(tmp_path / "shards", "b", [make_result(make_run()), make_result(make_run(seed=1))])
    assert len(Study.open(tmp_path).runs()) == 2
    assert len(study.runs()) == 2
    frame = study.runs()
    frame["status"] = "changed by the caller"
    assert set(study.runs().status) == {"completed"}


def test_an_empty_study_has_tables(tmp_path: Path) -> None:
    study = study_of(tmp_path, [])
    assert len(study.runs()) == len(study.curves()) == len(study.layers()) == 0
    assert {"run_id", "status", "test_accuracy", "width"} <= set(study.runs().columns)


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_folder_without_a_sweep_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "spec.json").write_text(text)
    with pytest.raises(BadInput, match=str(tmp_path)):
        Study.open(tmp_path)


def late_column(folder: Path, make_run: MakeRun, make_result: MakeResult, drifts: list[float]) -> pd.Series:
    results = [make_result(make_run(seed=seed), drift=drift) for seed, drift in enumerate(drifts)]
    return study_of(folder, results).runs().late


@pytest.mark.parametrize(
    ("drifts", "late"),
    [
        ([0.0, 0.0, 0.0], True),
        ([0.005, -0.005, 0.002, -0.002], True),
        # The drift is certain, but smaller than the margin: 1 % of the distance from 0.1 (chance) to 0.9.
        ([0.006, 0.007, 0.0065, 0.0073], True),
        ([0.02, 0.021, 0.019, 0.02], False),
        ([-0.02, -0.021, -0.019, -0.02], False),
        ([0.03, -0.03, 0.03, -0.03], False),  # the mean drift is zero, but its interval is wider than the margin
        ([0.0], False),
    ],
)
def test_late_is_an_equivalence_test(
    tmp_path: Path, make_run: MakeRun, make_result: MakeResult, drifts: list[float], late: bool
) -> None:
    column = late_column(tmp_path, make_run, make_result, drifts)
    assert column.dtype == bool
    assert set(column) == {late}


def test_the_interval_of_the_drift_is_a_t_interval(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    drifts = np.array([0.001, -0.002, 0.004, 0.003])
    half_width = stats.t.ppf(0.975, 3) * drifts.std(ddof=1) / 2
    largest_mean = 0.01 * (0.9 - 0.1) - half_width  # with a larger mean, the interval exceeds the margin
    inside, outside = (drifts - drifts.mean() + largest_mean * share for share in (0.999, 1.001))
    assert late_column(tmp_path / "inside", make_run, make_result, inside.tolist()).all()
    assert not late_column(tmp_path / "outside", make_run, make_result, outside.tolist()).any()


def test_late_is_a_property_of_the_cell(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    results = [make_result(make_run(seed=seed, width=8), drift=0.0) for seed in range(3)]
    results += [make_result(make_run(seed=seed, width=16), drift=0.1) for seed in range(3)]
    results += [make_result(make_run(seed=seed, width=32), status="diverged") for seed in range(3)]
    results += [make_result(make_run(seed=seed, width=64), drift=0.0, status="completed") for seed in range(2)]
    results += [make_result(make_run(seed=2, width=64), status="diverged")]
    runs = study_of(tmp_path, results).runs()
    assert runs.groupby("width").late.unique().map(list).to_dict() == {8: [True], 16: [False], 32: [False], 64: [True]}


def test_without_accuracy_the_test_loss_decides(tmp_path: Path, make_run: MakeRun, make_result: MakeResult) -> None:
    results = []
    # The loss falls from 2.3 (a constant predictor) to 0.3, so the margin is 0.02.
    for width, drift in ((8, 0.015), (16, 0.025)):
        for seed in range(3):
            result = make_result(make_run(seed=seed, width=width), drift=drift, accuracy=0.3)
            for values in (result.late_means, result.drifts):
                values.update({name: float("nan") for name in values if name.endswith("accuracy")})
            results.append(result)
    runs = study_of(tmp_path, results).runs()
    assert runs.groupby("width").late.first().to_dict() == {8: True, 16: False}
