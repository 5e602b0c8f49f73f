"""Runs that the spec does not describe are set aside by name, and mixed versions are said once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from noisescale.laws import fit
from noisescale.laws.foreign_runs import set_foreign_aside

SPEC = {
    "dataset": {"name": "digits"},
    "model": {"family": "mlp", "depth": 1},
    "grid": {"width": [4, 8], "parameterization": ["ntk"], "learning_rate": [0.5], "momentum": [0.0]},
    "training": {
        "loss": "cross_entropy", "schedule": {"kind": "constant"}, "clip_norm": None, "augmentation": [],
        "nesterov": False, "average": False,
    },
}  # fmt: skip
RUN = {
    "dataset": "digits", "family": "mlp", "depth": 1, "width": 4, "parameterization": "ntk", "loss": "cross_entropy",
    "momentum": 0.0, "schedule": "constant", "clip_norm": None, "augmentation": "", "nesterov": False, "average": False,
}  # fmt: skip


def table(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{**RUN, **change} for change in changes])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 16}, "width 16, where the spec has 4, 8"),
        ({"parameterization": "mup"}, "parameterization mup, where the spec has ntk"),
        ({"loss": "mse"}, "loss mse, where the spec has cross_entropy"),
        ({"dataset": "mnist1d"}, "dataset mnist1d, where the spec has digits"),
        ({"depth": 3}, "depth 3, where the spec has 1"),
        ({"momentum": 0.9}, "momentum 0.9, where the spec has 0.0"),
        ({"schedule": "cosine"}, "schedule cosine, where the spec has constant"),
        ({"clip_norm": 1.0}, "clip_norm 1.0, where the spec has None"),
        ({"augmentation": "flip"}, "augmentation flip, where the spec has "),
        ({"nesterov": True}, "nesterov True, where the spec has False"),
    ],
)
def test_a_foreign_run_is_set_aside_by_name(change: dict[str, Any], words: str) -> None:
    runs, (sentence,) = set_foreign_aside(table({}, {"width": 8}, change), SPEC)
    assert runs.index.tolist() == [0, 1]
    assert "1 runs are set aside" in sentence and words in sentence


def test_rates_that_a_sweep_adds_and_missing_columns_are_not_foreign() -> None:
    runs, sentences = set_foreign_aside(table({"learning_rate": 2.0}, {"depth": None}).drop(columns="loss"), SPEC)
    assert len(runs) == 2 and sentences == ()


def test_mixed_versions_are_said_once() -> None:
    old, new = (f"python 3.11.7, noisescale 0.{minor}.0, torch 2.13.0+cpu, numpy 2.0.0" for minor in (1, 2))
    runs = table({"versions": old, "code": ""}, {"versions": new, "code": "abc"}, {"versions": new, "code": None})
    _, (versions, code) = set_foreign_aside(runs, SPEC)
    assert versions == "the runs are of several versions: noisescale 0.1.0 and 0.2.0"
    assert code.startswith("1 runs of version 0.1 do not know the code")
    assert set_foreign_aside(table({"versions": new, "code": ""}, {"versions": new, "code": None}), SPEC)[1] == ()


def test_runs_on_other_data_are_set_aside() -> None:
    data = [{"label_noise": 0.0, "dataset_hash": "a"}] * 3 + [{"label_noise": 0.0, "dataset_hash": "b"}]
    noisy = [{"label_noise": 0.2, "dataset_hash": "c"}]
    runs, (sentence,) = set_foreign_aside(table(*data, *noisy), SPEC)
    assert runs.dataset_hash.tolist() == ["a", "a", "a", "c"]
    assert sentence == "1 runs are set aside, because they are not of this study: other data"


def test_runs_without_the_limit_of_the_spec_and_stability_runs_of_a_schedule() -> None:
    training = {**SPEC["training"], "clip_norm": 1.0, "schedule": {"kind": "cosine"}}
    kinds = {"schedule": "cosine", "purpose": "sweep"}
    ladder = {"schedule": "constant", "purpose": "stability"}
    rows = table({**kinds, "clip_norm": 1.0}, {**kinds, "clip_norm": None}, {**ladder, "clip_norm": 1.0})
    runs, (sentence,) = set_foreign_aside(rows, {**SPEC, "training": training})
    assert runs.index.tolist() == [0, 2] and "clip_norm" in sentence


def test_the_recorded_data_decide_and_not_the_most_runs() -> None:
    data = [{"label_noise": 0.0, "dataset_hash": "a"}] + [{"label_noise": 0.0, "dataset_hash": "b"}] * 2
    runs, _ = set_foreign_aside(table(*data), SPEC, {0.0: "a"})
    assert runs.dataset_hash.tolist() == ["a"]


def test_a_fit_leaves_foreign_runs_out(make_study: Any) -> None:
    study = make_study(seeds=8)
    foreign = study.runs().assign(width=7, test_accuracy=1.0)
    widths = study.runs().width.unique().tolist()
    spec = {**study.spec, "grid": {**study.spec.get("grid", {}), "width": widths}}
    both = SimpleNamespace(spec=spec, runs=lambda: pd.concat([study.runs(), foreign], ignore_index=True))
    alone, together = fit(study), fit(both)
    assert together.as_json()["groups"] == alone.as_json()["groups"]
    assert [text for text in together.warnings if text not in alone.warnings] == [together.warnings[0]]
    assert f"{len(foreign)} runs are set aside" in together.warnings[0]
