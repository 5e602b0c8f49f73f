"""Studies of one fixed model without a width: factories without a width, instances, and what people read about them."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fixed_models
import pytest
import torch
from torch import nn

from noisescale.cli import main
from noisescale.errors import BadInput
from noisescale.families import FixedModel
from noisescale.laws import fit, recommend
from noisescale.report import write_report
from noisescale.runs import LATER_KEYS
from noisescale.store import Study
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.training import PackTrainer

MakeSpec = Callable[..., SweepSpec]


def fixed(make_spec: MakeSpec, name: str, **changes: Any) -> SweepSpec:
    return make_spec(
        **{
            "grid__width": None, "grid__parameterization": None, "model": {"family": f"fixed_models:{name}"},
            "grid__learning_rate": [0.05, 0.2, 0.8], "grid__batch_size": [8], "seeds": 3,
            "training": {"steps": 60, "evaluations": 8, "schedule": {"kind": "cosine", "warmup": 0.1}},
            "fit": {"extend_edges": False}, "stability": {"seeds": 0}, **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return sweep(fixed(make_spec, "of_data"), tmp_path_factory.mktemp("fixed"), quiet=True, jobs=1)


@pytest.mark.parametrize("name", ["of_data", "of_nothing", "instance"])
def test_every_run_has_a_copy_of_the_model(name: str, make_spec: MakeSpec) -> None:
    spec = fixed(make_spec, name)
    grid = Grid(SweepSpec.from_dict(spec.model_dump()))
    assert spec.model_dump()["grid"]["width"] is None and grid.spec == spec
    runs = [run for run in grid.runs() if run.learning_rate == 0.05][:2]
    assert {(run.width, run.fixed, run.parameterization) for run in grid.runs()} == {(1, True, "own")}
    start = PackTrainer(runs, grid.dataset(0.0), grid.factory, reference_width=2).state.parameters
    assert [tuple(tensor.shape[1:]) for tensor in start.values()] == [(6, 64), (6,), (10, 6), (10,)]
    same = torch.equal(start["1.weight"][0], start["1.weight"][1])
    assert same == (name == "instance")
    if same:
        assert torch.equal(start["1.weight"][0], fixed_models.instance[1].weight)


def test_that_seeds_share_the_start_of_an_instance_is_noted(make_spec: MakeSpec, tmp_path: Path) -> None:
    before = fixed_models.instance[1].weight.clone()
    sweep(fixed(make_spec, "instance"), tmp_path, quiet=True, jobs=1)
    assert "the factory gives every seed the same initial weights" in (tmp_path / "log.txt").read_text()
    assert torch.equal(before, fixed_models.instance[1].weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"family": "mlp"}}, "grid.width, because the family 'mlp' has a width"),
        ({"grid__parameterization": ["mup"]}, "grid.width where grid.parameterization names mup"),
    ],
)
def test_a_width_that_is_needed_is_asked_for(changes: dict[str, Any], message: str, make_spec: MakeSpec) -> None:
    with pytest.raises(BadInput, match=message):
        fixed(make_spec, "of_data", **changes)


def test_a_factory_that_takes_a_width_needs_one(make_spec: MakeSpec) -> None:
    with pytest.raises(BadInput, match="given, because fixed_models:with_width takes a width"):
        fixed(make_spec, "with_width").runs()
    assert isinstance(FixedModel(fixed_models.with_width, "it", allow_width=True)(1, (8, 8), 10), nn.Module)


def test_nothing_that_people_read_speaks_of_a_width(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(study.folder)
    for command in (["fit", folder], ["recommend", folder], ["report", folder]):
        assert main(command) == 0
        printed = capsys.readouterr()
        if command[0] == "recommend":
            assert printed.out.splitlines()[-1].startswith(f"`noisescale report {folder}` prints a program")
        assert not re.search(r"\bwidths?\b", printed.out + printed.err), (printed.out, printed.err)
    page = (study.folder / "report" / "index.html").read_text(encoding="utf-8")
    visible = page.partition("<body")[2].partition("<h2>Glossary")[0]
    visible = re.sub(r"<svg.*?</svg>", "", visible, flags=re.DOTALL)
    assert not re.search(r"\bwidths?\b", re.sub(r"<[^>]*>", " ", visible))


def test_neither_failed_runs_nor_a_check_name_a_width(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    runs = study.runs()
    table = runs.assign(status=runs["status"].where(runs["seed"] != 0, "diverged"))
    warnings = recommend(SimpleNamespace(spec=study.spec, runs=lambda: table)).warnings
    assert any("in the cell behind this recommendation (ε = " in text for text in warnings)
    assert not any("width" in text for text in warnings)
    arguments = ["recommend", str(study.folder), "--check", "--check-seeds", "2"]
    assert main(arguments) == 0 and main([*arguments, "--check-budget", "0"]) == 2
    printed = capsys.readouterr()
    assert "2 fresh seeds: about" in printed.err and "the estimated time. Got: 0" in printed.err
    assert "width" not in printed.out + printed.err


def test_a_fixed_model_has_a_recommendation_without_a_width(study: Study) -> None:
    assert fit(study).fixed
    recommendation = recommend(study)
    assert recommendation.fixed and recommendation.learning_rate.value == pytest.approx(0.8, rel=0.9)
    for source in (
        fixed_models.of_data,
        fixed_models.of_nothing,
        fixed_models.instance,
        Grid(SweepSpec.from_dict(study.spec)).factory,
    ):
        model, optimizer = recommendation.optimizer(source)
        assert sum(parameter.numel() for parameter in model.parameters()) == 64 * 6 + 6 + 60 + 10
        assert optimizer.param_groups[0]["lr"] == pytest.approx(recommendation.learning_rate.value, rel=1e-12)
    with pytest.raises(BadInput, match="none, because the study has one fixed model"):
        recommend(study, width=64)


def test_a_study_with_widths_asks_for_the_width(make_spec: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the width to train"):
        recommend(sweep(make_spec(stability={"seeds": 0}), tmp_path, quiet=True, jobs=1))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_loop_that_the_report_prints_trains_the_recommendation(
    optimizer: str, make_spec: MakeSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = {"kind": "warmup_stable_decay", "warmup": 0.1, "decay": 0.5, "final": 0.2}
    changes = {"grid__learning_rate": [0.003, 0.01, 0.03]} if optimizer == "adamw" else {}
    spec = fixed(
        make_spec, "of_data", grid__optimizer=[optimizer],
        training={"steps": 60, "evaluations": 4, "schedule": schedule}, **changes,
    )  # fmt: skip
    page = write_report(sweep(spec, tmp_path / "study", quiet=True, jobs=1)).read_text(encoding="utf-8")
    (program,) = re.findall(r'<pre id="training-loop">(.*?)</pre>', page, flags=re.DOTALL)
    assert len(program.splitlines()) < 25
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    capsys.readouterr()
    exec(compile(unescape(program), "snippet", "exec"), names)
    recommendation, data = names["recommendation"], names["data"]
    expected = recommendation.expected_metric
    printed = [f"{expected.run_low}", f"{expected.run_high}"] if math.isfinite(expected.run_low) else []
    assert capsys.readouterr().out.split() == printed
    # After the last step, the rate is the end of the schedule.
    assert names["scheduler"].last_epoch == recommendation.steps
    rates = [group["lr"] for group in names["optimizer"].param_groups]
    assert rates == pytest.approx([0.2 * recommendation.learning_rate.value] * len(rates), rel=1e-9)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(names["model"](data.x_train), data.y_train)
    assert loss < 0.7 * torch.tensor(10.0).log()


def test_the_key_is_younger_than_the_first_studies() -> None:
    assert LATER_KEYS["fixed"] is False and sys.modules["fixed_models"] is fixed_models
