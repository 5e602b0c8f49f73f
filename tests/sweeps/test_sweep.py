"""Whole sweeps of a few small runs in this process: continuation, growth, failures, a full disk."""

from __future__ import annotations

import errno
import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from noisescale.errors import BadInput
from noisescale.runs import LATER_KEYS, RunResult
from noisescale.sweeps import Grid, SweepSpec, failures, sweep
from noisescale.sweeps.folder_status import status
from noisescale.sweeps.plan import Plan
from noisescale.training import PackTrainer

MakeSpec = Callable[..., SweepSpec]


def shards(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "shards").glob("*.parquet")}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".tmp" in path.name]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the ids of trained runs, in order."""
    ids: list[str] = []
    results = PackTrainer.results

    def record(trainer: PackTrainer) -> list[RunResult]:
        ids.extend(run.run_id for run in trainer.runs)
        return results(trainer)

    monkeypatch.setattr(PackTrainer, "results", record)
    return ids


def test_a_finished_sweep_trains_nothing(tmp_path: Path, make_spec: MakeSpec, trained: list[str]) -> None:
    spec = make_spec(grid__width=[2, 4], stability__seeds=2, stability__steps=5)
    study = sweep(spec, tmp_path / "out", quiet=True)
    runs = study.runs()
    assert (runs.purpose == "sweep").sum() == 2 * 2 * 2
    assert (runs.purpose == "stability").sum() >= 2 * 7 * 2
    assert sorted(trained) == sorted(runs.run_id)
    before = shards(tmp_path / "out")
    sweep(spec, tmp_path / "out", quiet=True)
    assert len(trained) == len(runs)
    assert shards(tmp_path / "out") == before
    assert not leftovers(tmp_path / "out")


@pytest.mark.parametrize(
    "model",
    [
        {"family": "mlp", "depth": 2, "normalization": "layer", "scale_invariant": True},
        {"family": "convnet", "depth": 2, "normalization": "group", "groups": 1},
        {"family": "resnet", "blocks": [1, 1], "stem": 3, "activation": "tanh"},
    ],
    ids=lambda model: str(model["family"]),
)
def test_every_family_is_swept_and_every_option_is_a_column(
    tmp_path: Path, make_spec: MakeSpec, trained: list[str], model: dict[str, Any]
) -> None:
    spec = make_spec(model=model, stability__seeds=1, stability__steps=5)
    runs = sweep(spec, tmp_path, quiet=True).runs()
    assert len(runs) > 4 and set(runs.status) <= {"completed", "diverged"}
    # A run stores lists, tables and paths that are not given as empty texts.
    empty = dict.fromkeys(("query_rows", "rate_multipliers", "checkpoint", "reinitialize"), "")
    stated = {**spec.model.model_dump(), **empty, **model}
    for key, value in stated.items():
        assert set(runs[key]) == {str(value) if isinstance(value, list) else value}, key
    sweep(spec, tmp_path, quiet=True)
    assert len(trained) == len(runs), "nothing is trained twice"


def test_a_folder_of_an_older_version_without_some_keys_continues(
    tmp_path: Path, make_spec: MakeSpec, trained: list[str]
) -> None:
    before = sweep(make_spec(), tmp_path, quiet=True).runs()
    spec = json.loads((tmp_path / "spec.json").read_text())
    packs = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text().splitlines()]
    for holder in (spec["model"], *(run for pack in packs for run in pack["runs"])):
        for key in LATER_KEYS:
            holder.pop(key, None)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    (tmp_path / "plan.jsonl").write_text("".join(f"{json.dumps(pack)}\n" for pack in packs))
    for path in (tmp_path / "shards").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(list(LATER_KEYS)), path)
    after = sweep(make_spec(seeds=3), tmp_path, quiet=True).runs()
    assert len(trained) == len(after) == len(before) * 3 // 2
    assert set(before.run_id) < set(after.run_id)
    assert [set(after[key]) for key in LATER_KEYS] == [{default} for default in LATER_KEYS.values()]
    with pytest.raises(BadInput, match="other values of model.stem"):
        sweep(make_spec(model={"family": "mlp", "stem": 4}), tmp_path, quiet=True)


def test_a_note_is_printed_before_the_runs(
    tmp_path: Path, make_spec: MakeSpec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Grid, "notes", lambda grid: ["mind the gap"])
    sweep(make_spec(), tmp_path)
    assert capsys.readouterr().err.startswith("note: mind the gap")


@pytest.mark.parametrize(
    "changes", [{"seeds": 3}, {"grid__width": [2, 4]}, {"grid__learning_rate": [0.25, 0.5, 1.0]}], ids=str
)
def test_a_larger_spec_trains_only_the_missing_runs(
    tmp_path: Path, make_spec: MakeSpec, trained: list[str], changes: dict[str, Any]
) -> None:
    sweep(make_spec(), tmp_path, quiet=True)
    before = shards(tmp_path)
    runs = sweep(make_spec(**changes), tmp_path, quiet=True).runs()
    assert len(trained) == len(set(trained)) == len(runs) > 4
    assert before.items() < shards(tmp_path).items()


def test_more_seeds_keep_the_stability_ladder(tmp_path: Path, make_spec: MakeSpec, trained: list[str]) -> None:
    ladder = {"stability__seeds": 2, "stability__steps": 5}
    before = sweep(make_spec(**ladder), tmp_path, quiet=True).runs()
    after = sweep(make_spec(seeds=3, **ladder), tmp_path, quiet=True).runs()
    assert set(after[after.purpose == "stability"].run_id) == set(before[before.purpose == "stability"].run_id)
    assert len(trained) == len(after)


def test_an_interrupted_sweep_continues_with_the_same_packs(
    tmp_path: Path, make_spec: MakeSpec, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(grid__width=[2, 3, 4])
    advance = PackTrainer.advance

    def interrupt(trainer: PackTrainer, until: int | None = None, seconds: float | None = None) -> None:
        if len(trained) >= 4:
            signal.raise_signal(signal.SIGINT)
        advance(trainer, until, seconds)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PackTrainer, "advance", interrupt)
        sweep(spec, tmp_path, quiet=True)
    before, planned = shards(tmp_path), (tmp_path / "plan.jsonl").read_bytes()
    assert len(before) == 1
    state = status(tmp_path)
    assert (state.completed, state.missing, state.running) == (4, 8, False)
    assert len(sweep(spec, tmp_path, quiet=True).runs()) == len(trained) == len(set(trained)) == 12
    assert before.items() < shards(tmp_path).items()
    assert (tmp_path / "plan.jsonl").read_bytes() == planned
    assert {f"{pack}.parquet" for pack in Plan(tmp_path / "plan.jsonl").packs} == shards(tmp_path).keys()


def test_extensions_of_ladders_and_budgets_end(tmp_path: Path, make_spec: MakeSpec, trained: list[str]) -> None:
    spec = make_spec(
        fit__extend_edges=True, grid__learning_rate=[0.25, 0.5, 1.0], training__max_extensions=1,
        stability__seeds=1, stability__steps=5,
    )  # fmt: skip
    runs = sweep(spec, tmp_path, quiet=True).runs()
    grid = runs[runs.purpose == "sweep"]
    assert grid.steps.max() in (12, 24)
    assert len(grid) > 6
    assert (grid.groupby(["learning_rate", "steps"]).seed.nunique() == 2).all()
    sweep(spec, tmp_path, quiet=True)
    assert len(trained) == len(runs)


def test_diverged_runs_are_results(tmp_path: Path, make_spec: MakeSpec) -> None:
    runs = sweep(make_spec(grid__learning_rate=[1.0, 1e12]), tmp_path, quiet=True).runs()
    diverged = runs[runs.learning_rate == 1e12]
    assert set(diverged.status) == {"diverged"}
    assert diverged.test_accuracy.isna().all() and not diverged.late.any()
    assert set(runs[runs.learning_rate == 1].status) == {"completed"}
    assert failures(tmp_path) == {}
    assert status(tmp_path).diverged == 2


def test_a_failed_pack_is_recorded_and_trains_again(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(grid__width=[2, 4], stability__seeds=1, stability__steps=5, fit__extend_edges=True)
    advance = PackTrainer.advance

    def fail(trainer: PackTrainer, until: int | None = None, seconds: float | None = None) -> None:
        if trainer.runs[0].width == 4:
            raise RuntimeError("width 4 is impossible\nwith details")
        advance(trainer, until, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(PackTrainer, "advance", fail)
        study = sweep(spec, tmp_path, quiet=True)
    assert set(study.finished().width) == {2}
    assert set(study.runs().query("status == 'failed'").width) == {4}
    state = status(tmp_path)
    assert all("width 4" in error and error.endswith("width 4 is impossible") for error in state.failed.values())
    assert state.missing == sum(
        len(pack.runs) for pack in Plan(tmp_path / "plan.jsonl").packs.values() if pack.pack_id in state.failed
    )
    assert any("width 4" in line for line in state.lines())
    again = sweep(spec, tmp_path, quiet=True).runs()
    assert set(again.width) == {2, 4}
    assert failures(tmp_path) == {} and status(tmp_path).missing == 0


SCALAR = """
import math
from torch import nn, ones
class Scaled(nn.Module):
    def __init__(self, width, inputs, outputs):
        super().__init__()
        self.scale = nn.Parameter(ones(()))
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))
    def forward(self, x):
        return self.scale * self.body(x)
def factory(width, shape, classes):
    return Scaled(width, math.prod(shape), classes)
"""


def test_a_model_with_a_scalar_parameter_trains(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "scalar_model.py").write_text(SCALAR)
    runs = sweep(make_spec(model={"family": "scalar_model:factory"}), tmp_path / "out", quiet=True).runs()
    assert len(runs) and (runs.status == "completed").all()


@pytest.mark.parametrize("target", ["os.fsync", "os.link"])
def test_a_full_disk_stops_the_sweep_and_loses_nothing(
    tmp_path: Path, make_spec: MakeSpec, trained: list[str], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    spec = make_spec(grid__width=[2, 4])

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sweep(make_spec(), tmp_path, quiet=True)
    before = shards(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(target, full)
        sweep(spec, tmp_path, quiet=True)
    assert shards(tmp_path) == before
    assert not leftovers(tmp_path)
    assert len(sweep(spec, tmp_path, quiet=True).runs()) == 8
    assert before.items() < shards(tmp_path).items()


def test_changed_data_is_refused(tmp_path: Path, make_spec: MakeSpec) -> None:
    sweep(make_spec(), tmp_path, quiet=True)
    plan = tmp_path / "plan.jsonl"
    plan.write_text(plan.read_text().replace('"dataset_hash": "', '"dataset_hash": "0'))
    with pytest.raises(BadInput, match="dataset digits"):
        sweep(make_spec(), tmp_path, quiet=True)


def test_a_refused_spec_writes_nothing(tmp_path: Path, make_spec: MakeSpec) -> None:
    for changes in ({"grid__batch_size": [61]}, {"model__family": "mpl"}, {"dataset__train_size": 9999}):
        with pytest.raises(BadInput):
            sweep(make_spec(**changes), tmp_path / "out", quiet=True)
        assert not (tmp_path / "out").exists()


def test_the_heartbeat_reports_progress(tmp_path: Path, make_spec: MakeSpec) -> None:
    sweep(make_spec(), tmp_path, quiet=True)
    heartbeat = json.loads((tmp_path / "heartbeat.json").read_text())
    assert {"done", "total", "diverged", "failed", "seconds_left", "time"} <= heartbeat.keys()
    times = [json.loads(line) for line in (tmp_path / "times.jsonl").read_text().splitlines()]
    assert {"training", "evaluation", "storing", "planning", "wall"} <= times[-1].keys()
    state = status(tmp_path)
    assert state.heartbeat_age is not None and state.heartbeat_age >= 0
    assert state.seconds_left is None


def test_plain_lines_are_printed_without_a_terminal(
    tmp_path: Path, make_spec: MakeSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(make_spec(), tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "grid: 4 runs in 1 packs"
    assert lines[-1].startswith("4/4 runs, ")


def test_the_settings_of_the_caller_are_restored(tmp_path: Path, make_spec: MakeSpec) -> None:
    threads = torch.get_num_threads()
    sweep(make_spec(), tmp_path, quiet=True)
    assert torch.get_num_threads() == threads
    assert float(torch.tensor(1e-310, dtype=torch.float64) * 0.5) > 0  # subnormal numbers are not flushed to zero
