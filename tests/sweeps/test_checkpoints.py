"""Checkpoints of packs (runs that train together): a pack pauses and continues with exactly the same results.

A damaged checkpoint costs work, but it changes no result and executes no code.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from noisescale.cli import main
from noisescale.store import Study
from noisescale.sweeps import Grid, SweepSpec, sweep
from noisescale.sweeps.checkpoints import Checkpoint, CheckpointFile
from noisescale.sweeps.folder_status import status
from noisescale.sweeps.jobs import Job
from noisescale.sweeps.plan import Pack
from noisescale.sweeps.train_pack import TrainedPack, train_pack
from noisescale.training import PackState, PackTrainer

MakeGrid = Callable[..., Grid]
MakeSpec = Callable[..., SweepSpec]


def job(grid: Grid, folder: Path, **changes: Any) -> Job:
    runs = tuple(grid.runs())
    pack = Pack("pack", runs, 1.0)
    made = Job(pack, grid.spec.dataset.options(0.0), folder, folder / "kernels", folder / "checkpoints", "cpu", False)
    return replace(made, **changes)


def state() -> PackState:
    return PackState(3, {"w": torch.randn(4, 2)}, {}, {}, torch.full((4,), -1), torch.zeros(4, dtype=torch.int64))


def file_for(grid: Grid, folder: Path) -> CheckpointFile:
    return CheckpointFile(folder / "checkpoints", tuple(grid.runs()))


def test_a_written_checkpoint_is_read_back(tmp_path: Path, make_grid: MakeGrid) -> None:
    file, before = file_for(make_grid(), tmp_path), state()
    assert file.read() is None
    file.write(Checkpoint(before, "vmap 8"))
    checkpoint = file.read()
    assert checkpoint is not None and (checkpoint.state.step, checkpoint.choice) == (3, "vmap 8")
    assert torch.equal(checkpoint.state.parameters["w"], before.parameters["w"])
    file.discard()
    file.discard()
    assert file.read() is None


class Harmful:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("damage", ["torn", "empty", "words", "pickle", "format", "other runs", "no state"])
def test_a_damaged_checkpoint_is_discarded_and_runs_no_code(
    damage: str, tmp_path: Path, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = file_for(make_grid(), tmp_path)
    file.write(Checkpoint(state(), "vmap 8"))
    whole = file.path.read_bytes()
    values = torch.load(file.path, weights_only=True)
    if damage == "torn":
        file.path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        file.path.write_bytes(b"")
    elif damage == "words":
        file.path.write_text("no checkpoint at all")
    elif damage == "pickle":
        file.path.write_bytes(pickle.dumps(Harmful()))
    elif damage == "format":
        torch.save({**values, "format": 0}, file.path)
    elif damage == "other runs":
        torch.save({**values, "runs": values["runs"][::-1]}, file.path)
    else:
        torch.save({**values, "state": {"step": 3}}, file.path)
    assert file.read() is None
    assert not (tmp_path / "touched").exists()
    file.write(Checkpoint(state(), "vmap 8"))
    assert file.read() is not None


def test_the_state_of_another_model_is_ignored(tmp_path: Path, make_grid: MakeGrid) -> None:
    grid = make_grid()
    straight = train_pack(job(grid, tmp_path))
    file_for(grid, tmp_path).write(Checkpoint(state(), "explicit 4"))
    assert results_of(train_pack(job(grid, tmp_path))) == results_of(straight)


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("unexpected pos 64 vs 0")])
def test_training_continues_when_a_checkpoint_cannot_be_written(
    error: Exception, tmp_path: Path, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: CheckpointFile, checkpoint: Checkpoint) -> None:
        raise error

    monkeypatch.setattr(CheckpointFile, "write", full)
    assert len(train_pack(replace(job(make_grid(), tmp_path), slice_seconds=0.0)).results) == 4


def results_of(trained: TrainedPack) -> str:
    return repr([(result.run.run_id, result.curves, result.late_means, result.averaged) for result in trained.results])


@pytest.mark.parametrize("average", [False, True, {"ema": 0.9}])
def test_a_killed_pack_continues_with_exactly_the_same_results(
    average: bool | dict[str, float], tmp_path: Path, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid(training={"steps": 300, "evaluations": 3, "average": average}, grid__momentum=[0.0, 0.9])
    straight = train_pack(job(grid, tmp_path / "straight"))
    assert not (tmp_path / "straight" / "checkpoints").exists()
    monkeypatch.setattr("noisescale.training.pack_trainer._LOOK_SECONDS", 1e-9)
    advance, calls = PackTrainer.advance, 0

    def kill(trainer: PackTrainer, until: int | None = None, seconds: float | None = None) -> None:
        nonlocal calls
        calls += 1
        if calls % 40 == 0:
            raise KeyboardInterrupt
        advance(trainer, until, seconds)

    monkeypatch.setattr(PackTrainer, "advance", kill)
    folder = tmp_path / "killed"
    folder.mkdir()
    kills, steps = 0, []
    while True:
        try:
            trained = train_pack(replace(job(grid, folder), slice_seconds=0.0))
            break
        except KeyboardInterrupt:
            kills += 1
            checkpoint = file_for(grid, folder).read()
            assert checkpoint is not None
            steps.append(checkpoint.state.step)
    assert kills >= 4 and steps == sorted(set(steps))
    assert results_of(trained) == results_of(straight)
    assert file_for(grid, folder).path.exists()
    trained.discard_checkpoints()
    assert not file_for(grid, folder).path.exists()


def test_a_pack_pauses_at_its_deadline(tmp_path: Path, make_grid: MakeGrid) -> None:
    grid = make_grid()
    tmp_path.joinpath("straight").mkdir()
    paused = train_pack(job(grid, tmp_path, deadline=time.monotonic()))
    assert paused.paused and not paused.results and file_for(grid, tmp_path).path.exists()
    assert results_of(train_pack(job(grid, tmp_path))) == results_of(train_pack(job(grid, tmp_path / "straight")))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])  # fmt: skip
def test_a_pack_that_does_not_fit_in_memory_trains_in_halves(
    error: Exception, tmp_path: Path, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid(seeds=3)
    straight = train_pack(job(grid, tmp_path))
    advance, sizes = PackTrainer.advance, []

    def scarce(trainer: PackTrainer, until: int | None = None, seconds: float | None = None) -> None:
        sizes.append(len(trainer.runs))
        if len(trainer.runs) > 2:
            raise error
        advance(trainer, until, seconds)

    monkeypatch.setattr(PackTrainer, "advance", scarce)
    halved = train_pack(job(grid, tmp_path))
    assert sizes == [6, 3, 1, 2, 3, 1, 2]
    assert [result.run for result in halved.results] == [result.run for result in straight.results]
    for result, expected in zip(halved.results, straight.results, strict=True):
        np.testing.assert_allclose(result.curves["train_loss"], expected.curves["train_loss"], rtol=1e-4)
    assert "trained in halves" in halved.note


def test_a_single_run_that_does_not_fit_in_memory_fails(
    tmp_path: Path, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(trainer: PackTrainer, until: int | None = None, seconds: float | None = None) -> None:
        raise MemoryError

    monkeypatch.setattr(PackTrainer, "advance", never)
    with pytest.raises(MemoryError):
        train_pack(job(make_grid(seeds=1, grid__learning_rate=[0.5]), tmp_path))


def comparable(study: Study) -> pd.DataFrame:
    runs = study.runs().sort_values("run_id", ignore_index=True)
    return runs.drop(columns=["seconds"])


def test_a_sweep_with_a_time_limit_continues(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisescale.training.pack_trainer._LOOK_SECONDS", 0.01)
    spec = make_spec(
        grid__width=[2, 3], training__steps=3000, stability__seeds=1, stability__steps=5, fit__extend_edges=True
    )
    straight = sweep(spec, tmp_path / "straight", quiet=True)
    calls = 0
    while calls == 0 or status(tmp_path / "limited").missing:
        # The limit grows with each call, because a busy machine may need a third of a second before training starts.
        limited = sweep(spec, tmp_path / "limited", jobs=1, max_seconds=0.3 * 1.05**calls, quiet=True)
        calls += 1
        assert calls < 200
    assert calls > 1
    pd.testing.assert_frame_equal(comparable(limited), comparable(straight))
    assert not (tmp_path / "limited" / "checkpoints").exists()


def test_the_command_reports_that_it_stopped_at_its_time_limit(
    tmp_path: Path, make_spec: MakeSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name="x"\nseeds=1\n[dataset]\nname="digits"\ntrain_size=60\n[model]\nfamily="mlp"\n'
        "[grid]\nwidth=[2]\nbatch_size=[10]\nlearning_rate=[0.5]\n[training]\nsteps=20\n[stability]\nseeds=0\n"
    )
    command = ["sweep", str(spec), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert main([*command, "--max-seconds", "0"]) == 130
    message = capsys.readouterr().err
    assert "stopped after 0 s with 1 runs to do" in message and "interrupted" not in message
    assert main([*command, "--max-seconds", "1000"]) == 0


def test_a_failed_pack_does_not_count_as_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name="x"\nseeds=1\n[dataset]\nname="digits"\ntrain_size=60\n[model]\nfamily="mlp"\n'
        "[grid]\nwidth=[2]\nbatch_size=[10]\nlearning_rate=[0.5]\n[training]\nsteps=20\n[stability]\nseeds=0\n"
    )

    def fail(trainer: PackTrainer, until: int | None = None, seconds: float | None = None) -> None:
        raise RuntimeError("no such width")

    monkeypatch.setattr(PackTrainer, "advance", fail)
    assert main(["sweep", str(spec), "--out", str(tmp_path / "out"), "--jobs", "1", "--max-seconds", "1000"]) == 1
    assert "stopped" not in capsys.readouterr().err


@pytest.mark.usefixtures("two_cores")
def test_two_workers_pause_and_continue(tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(grid__width=[2, 3], training__steps=15_000)
    straight = sweep(spec, tmp_path / "straight", jobs=2, quiet=True)
    first = sweep(spec, tmp_path / "limited", jobs=2, max_seconds=5.0, quiet=True)
    limited = sweep(spec, tmp_path / "limited", jobs=2, quiet=True)
    assert len(first.runs()) <= len(limited.runs()) == 8
    pd.testing.assert_frame_equal(comparable(limited), comparable(straight))
