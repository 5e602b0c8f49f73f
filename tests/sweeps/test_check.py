"""`recommend --check` trains the recommendation and default settings on fresh seeds, and compares them by seed."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from noisescale.check import check_recommendation
from noisescale.cli import main
from noisescale.errors import BadInput
from noisescale.laws import Check, Difference, compare_settings, read_check, recommend
from noisescale.report import write_report
from noisescale.report.checked import check_sentences, check_table_data
from noisescale.store import Study
from noisescale.sweeps import SettingRuns, SweepSpec, status, sweep
from noisescale.sweeps.setting_runs import FIRST_SEED
from noisescale.sweeps.timed_steps import time_pack
from noisescale.training import TrainingSetting, default_settings

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "recommend.json"
DEFAULTS = ["torch.optim.SGD(lr=0.1)", "torch.optim.SGD(lr=0.01)", "torch.optim.AdamW(lr=1e-3)"]

MODELS = """
import math
from torch import nn

class Steep(nn.Module):
    def forward(self, x):
        return x**5

def steep(width, shape, classes):
    first = nn.Linear(math.prod(shape), width)
    return nn.Sequential(nn.Flatten(), first, Steep(), nn.Linear(width, classes))

def normalized(width, shape, classes):
    first = nn.Linear(math.prod(shape), width)
    return nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))
"""


@pytest.fixture(scope="module")
def small_study(make_spec: Callable[..., SweepSpec], tmp_path_factory: pytest.TempPathFactory) -> Study:
    spec = make_spec(seeds=3, grid__width=[2, 4], grid__learning_rate=[0.5, 1.0, 2.0], training__steps=30)
    return sweep(spec, tmp_path_factory.mktemp("check") / "study", quiet=True)


def parts_match(values: dict[str, Any], part: dict[str, Any], schema: dict[str, Any]) -> None:
    """Check that the keys of a value, and of the values in it, are those of the schema."""
    assert set(values) == set(part["required"])
    for name, described in part["properties"].items():
        items = described.get("items", described)
        if "$ref" in items:
            entries = values[name] if "items" in described else [values[name]]
            for entry in entries:
                parts_match(entry, schema["$defs"][items["$ref"].rsplit("/", 1)[1]], schema)


def test_the_command_line_checks_a_recommendation(
    small_study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in small_study.folder.rglob("*") if path.is_file()}
    counts = replace(status(small_study.folder), heartbeat_age=None)
    arguments = ["recommend", str(small_study.folder), "--width", "6", "--check", "--check-seeds", "3"]
    assert main([*arguments, "--json"]) == 0
    output = capsys.readouterr()
    assert "check: 4 settings, 3 fresh seeds, width 6: about" in output.err
    values = json.loads(output.out)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert set(values) - {"schema_version"} == set(schema["properties"]) - {"schema_version"}
    check = values["check"]
    parts_match(check, schema["$defs"]["Check"], schema)
    recommended, *defaults = check["settings"]
    assert (check["width"], check["requested_width"]) == (6, 6)
    assert check["seeds"] == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert not set(check["seeds"]) & set(small_study.runs().seed)
    assert [setting["name"] for setting in defaults] == DEFAULTS
    assert recommended["learning_rate"] == values["learning_rate"]["value"]
    assert (recommended["batch_size"], recommended["steps"]) == (values["batch_size"], values["steps"])
    for setting in defaults:
        assert setting["batch_size"] == 32 and setting["parameterization"] == "own"
        examples = recommended["batch_size"] * recommended["steps"]
        assert abs(setting["batch_size"] * setting["steps"] - examples) <= setting["batch_size"] / 2
    for setting, difference in zip(defaults, check["differences"], strict=True):
        expected = np.array(recommended["values"]) - np.array(setting["values"])
        assert difference["value"] == pytest.approx(expected.mean())
        low, high = stats.t.interval(0.95, 2, expected.mean(), expected.std(ddof=1) / math.sqrt(3))
        assert (difference["low"], difference["high"]) == pytest.approx((low, high))
    best = max(defaults, key=lambda setting: setting["mean"])
    assert check["best_default"]["name"] == best["name"]
    # The study's files stay as they were.
    assert all(path.read_bytes() == text for path, text in before.items())
    assert replace(status(small_study.folder), heartbeat_age=None) == counts

    # A second call trains nothing.
    monkeypatch.setattr("noisescale.sweeps.setting_runs.Job", lambda *arguments, **names: pytest.fail("trained again"))
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "Check at width 6, on 3 fresh seeds" in text and DEFAULTS[0] in text

    # The report shows the check.
    path = write_report(small_study)
    data = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    assert data["check"] == check
    page = path.read_text(encoding="utf-8")
    assert "Check at width 6, on 3 fresh seeds" in page
    assert any(sentence.startswith("On 3 fresh seeds at width 6, the recommendation") for sentence in data["result"])


def test_what_the_check_prints_is_not_in_the_output(
    small_study: Study, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def talking(*arguments: Any, **options: Any) -> Check:
        print("a print of a model")
        os.write(1, b"a line of an extension\n")
        return check_recommendation(*arguments, **options)

    monkeypatch.setattr("noisescale.check.check_recommendation", talking)
    arguments = ["recommend", str(small_study.folder), "--width", "6", "--check", "--check-seeds", "3", "--json"]
    assert main(arguments) == 0
    output = capfd.readouterr()
    assert "check" in json.loads(output.out)
    assert "a print of a model\n" in output.err and "a line of an extension\n" in output.err


def test_the_defaults_are_those_of_torch(small_study: Study) -> None:
    runs = SettingRuns(small_study, 2)
    (setting,) = [setting for setting in default_settings(20, 60) if setting.name == DEFAULTS[0]]
    run = runs.runs(setting, 4)[0]
    assert run.weight_decay == run.momentum == 0.0 and run.decay == "coupled" and run.base_width is None
    adamw = runs.runs(default_settings(20, 60)[2], 4)[0]
    reference = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    assert adamw.weight_decay == reference.defaults["weight_decay"] and adamw.decay == "decoupled"
    assert (adamw.beta1, adamw.beta2, adamw.epsilon) == (*reference.defaults["betas"], reference.defaults["eps"])


def test_an_interrupted_check_continues(
    make_spec: Callable[..., SweepSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = sweep(make_spec(seeds=3, grid__width=[2, 4], training__steps=30), tmp_path / "study", quiet=True)
    recommendation = recommend(study, width=4)
    whole = check_recommendation(study, recommendation, seeds=3)
    (tmp_path / "study" / "check").rename(tmp_path / "whole")
    trained = []

    class Interrupt(Exception):
        pass

    from noisescale.sweeps import local_executor

    original = local_executor.train_and_store

    def interrupted(job: Any, refresh: Any) -> Any:
        if len(trained) == 2:
            raise Interrupt
        trained.append(job.pack.pack_id)
        return original(job, refresh)

    monkeypatch.setattr(local_executor, "train_and_store", interrupted)
    with pytest.raises(Interrupt):
        check_recommendation(study, recommendation, seeds=3)
    assert read_check(study.folder) is None
    again = []
    monkeypatch.setattr(
        local_executor, "train_and_store", lambda job, refresh: again.append(job.pack.pack_id) or original(job, refresh)
    )
    assert check_recommendation(study, recommendation, seeds=3) == whole
    assert len(again) == 2 and not set(again) & set(trained)


@pytest.fixture
def models(user_module: Callable[[str], str]) -> str:
    return user_module(MODELS)


def test_a_default_that_diverges_counts_as_the_constant_predictor(
    models: str, make_spec: Callable[..., SweepSpec], tmp_path: Path
) -> None:
    spec = make_spec(
        seeds=3, model={"family": f"{models}:steep"}, grid__width=[4], training__steps=60,
        grid__learning_rate=[1e-3, 1e-2], grid__parameterization=["own"],
    )  # fmt: skip
    study = sweep(spec, tmp_path / "study", quiet=True)
    check = check_recommendation(study, recommend(study, width=4), seeds=3)
    runs = Study(study.folder / "check", study.spec).finished()
    diverged = runs[(runs.optimizer == "sgd") & (runs.learning_rate == 0.1)]
    assert set(diverged.status) == {"diverged"}
    setting = next(setting for setting in check.settings if setting.name == DEFAULTS[0])
    assert setting.values == pytest.approx([float(diverged.chance_accuracy.iloc[0])] * 3)


def test_the_default_batch_is_the_nearest_that_the_model_accepts(
    models: str, make_spec: Callable[..., SweepSpec], tmp_path: Path
) -> None:
    spec = make_spec(seeds=3, model={"family": f"{models}:normalized"}, dataset__train_size=20, grid__width=[4])
    runs = SettingRuns(sweep(spec, tmp_path / "study", quiet=True), 2)
    assert runs.nearest_batch(32) == 20
    assert runs.nearest_batch(1) == 2


def test_a_small_budget_checks_the_widest_trained_width_that_fits(
    small_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SettingRuns, "seconds", lambda runs, settings, width, limit: 10.0 * width)
    lines: list[str] = []
    recommendation = recommend(small_study, width=6)
    check = check_recommendation(small_study, recommendation, seeds=2, budget=45.0, log=lines.append)
    assert (check.width, check.requested_width) == (4, 6)
    assert lines[0] == "check: width 6 would take about 60.0 s, above the 45 s allowed"
    assert check.settings[0].learning_rate == recommend(small_study, width=4).learning_rate.value
    assert "Width 6 would take too long, so width 4 was trained." in check_table_data(check).notes
    asked = {"prefer": "steps", "tolerance": 0.02, "held": {"parameterization": "ntk"}}
    requests: list[tuple[Any, dict[str, Any]]] = []

    def recorded(*arguments: Any, **options: Any) -> Any:
        requests.append((arguments[1:], options))
        return recommend(*arguments, **options)

    monkeypatch.setattr("noisescale.check.recommend", recorded)
    wide = recommend(small_study, 6, 4, **asked)
    check_recommendation(small_study, wide, 4, held=asked["held"], seeds=2, budget=45.0)
    assert requests == [((4,), {"batch_size": 4, **asked})]
    with pytest.raises(BadInput, match=r"--check-budget: at least 20 s, the estimated time at width 2.*Got: 3"):
        check_recommendation(small_study, recommendation, seeds=2, budget=3.0)


def test_long_checks_are_timed_and_hopeless_ones_are_not(small_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = default_settings(32, 6400)
    runs = SettingRuns(small_study, 2)
    monkeypatch.setattr("noisescale.sweeps.setting_runs.SHORT_SECONDS", 0.0)
    timed = []
    monkeypatch.setattr(
        "noisescale.sweeps.setting_runs.time_pack",
        lambda pack, *others: timed.append(pack) or time_pack(pack, *others),
    )
    assert runs.seconds(settings, 4, limit=1e-9) > 0
    assert not timed
    estimate = runs.seconds(settings, 4, limit=600.0)
    assert len(timed) == 2  # both SGD settings have one shape
    # 200 steps of two tiny networks take about 0.1 s. The bounds are wide, because machines are busy.
    assert 0.01 < estimate < 20
    assert not (small_study.folder / "check" / "shards" / f"{timed[0].pack_id}.parquet").exists()


def test_the_command_refuses_a_budget_that_fits_no_width(
    small_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", str(small_study.folder), "--width", "4", "--check", "--check-budget", "0"]) == 2
    assert "--check-budget" in capsys.readouterr().err


def planted_check(values: list[list[float]], metric: str = "accuracy") -> Check:
    settings = [TrainingSetting("recommendation", 1.0, 8, 10, parameterization="ntk"), *default_settings(32, 80)]
    unit = "fraction" if metric == "accuracy" else "nats"
    arrays = [np.array(row) for row in values]
    return compare_settings(settings, arrays, width=8, requested_width=8, seeds=(1, 2, 3), metric=metric, unit=unit)


def test_a_default_that_is_better_is_said_at_the_top() -> None:
    better = planted_check([[0.5, 0.51, 0.52], [0.6, 0.61, 0.625], [0.3, 0.4, 0.5], [0.1, 0.1, 0.1]])
    assert [difference.name for difference in better.contradicts] == [DEFAULTS[0]]
    assert better.best_default.name == DEFAULTS[0]
    (sentence,) = check_sentences(better)
    assert "contradicts the recommendation" in sentence and DEFAULTS[0] in sentence
    (sentence,) = check_sentences(planted_check([[0.7, 0.71, 0.72], [0.6, 0.61, 0.625], [0.3] * 3, [0.1] * 3]))
    assert "beats the best default" in sentence
    (sentence,) = check_sentences(planted_check([[0.6, 0.71, 0.6], [0.6, 0.61, 0.7], [0.3] * 3, [0.1] * 3]))
    assert "is not distinguishable from the best default" in sentence
    assert check_sentences(None) == []


def test_a_smaller_loss_is_an_advantage() -> None:
    check = planted_check([[1.0, 1.1, 1.2], [2.0, 2.1, 2.3], [1.5] * 3, [3.0] * 3], metric="loss")
    assert check.differences[0].value == pytest.approx(3.1 / 3) and check.differences[0].low > 0
    assert check.best_default.name == DEFAULTS[1]
    assert not check.contradicts


def test_a_stored_check_reads_back(tmp_path: Path) -> None:
    check = planted_check([[0.5, 0.51, 0.52], [0.6, 0.61, 0.625], [0.3, 0.4, 0.5], [0.1, 0.1, 0.1]])
    unbounded = Difference(DEFAULTS[0], 0.1, -math.inf, math.inf)
    check = replace(check, differences=(unbounded, *check.differences[1:]))
    assert read_check(tmp_path) is None
    (tmp_path / "check").mkdir()
    path = tmp_path / "check" / "check.json"
    path.write_text(json.dumps(check.as_json()))
    assert read_check(tmp_path) == check
    path.write_text('{"width": 3}')
    with pytest.raises(BadInput, match=r"check\.json: a check as"):
        read_check(tmp_path)


def test_code_of_a_notebook_is_trained_in_this_process(
    make_spec: Callable[..., SweepSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notebook = ModuleType("__main__")
    exec(MODELS, notebook.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    spec = make_spec(model__family="__main__:normalized", grid__parameterization=["own"], stability__price=False)
    study = sweep(spec, tmp_path / "study", jobs=1, quiet=True)
    assert SettingRuns(study, 2)._workers.count == 1
