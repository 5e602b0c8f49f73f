"""Exports, read back with the tools they are for."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from noisescale.cli import main
from noisescale.errors import BadInput
from noisescale.exports import FORMATS, export
from noisescale.exports.entries import entries
from noisescale.store import Study
from noisescale.sweeps import SweepSpec, sweep

SPEC: dict[str, Any] = {
    "name": "exported",
    "seeds": 2,
    "dataset": {"name": "digits", "train_size": 100},
    "model": {"family": "mlp"},
    # The largest rate diverges: a run without results is a run all the same.
    "grid": {"width": [4, 8], "learning_rate": [0.5, 1e9], "batch_size": [8]},
    "training": {"steps": 40, "evaluations": 4},
    "stability": {"steps": 20, "seeds": 2},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return sweep(SweepSpec.from_dict(SPEC), tmp_path_factory.mktemp("study") / "out", jobs=1, quiet=True)


@pytest.mark.parametrize(("to", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables_come_back(to: str, read: Any, study: Study, tmp_path: Path) -> None:
    path = export(study, to, tmp_path / "tables")
    for name, table in (("runs", study.runs()), ("curves", study.curves()), ("layers", study.layers())):
        back = read(path / f"{name}.{to}")
        assert list(back.columns) == list(table.columns) and len(back) == len(table)
        for column in ("run_id", "test_accuracy", "learning_rate"):
            if column in table:
                pd.testing.assert_series_equal(back[column], table[column], check_dtype=False, check_exact=True)


def test_what_varies_is_a_hyperparameter(study: Study) -> None:
    found = list(entries(study))
    assert len(found) == 8
    assert set(found[0].given) == {"width", "learning_rate", "seed"}
    assert found[0].fixed["batch_size"] == 8
    diverged = [entry for entry in found if entry.status == "diverged"]
    assert diverged and all("test_accuracy" not in entry.found for entry in diverged)
    assert all(math.isfinite(value) for entry in found for pairs in entry.curves.values() for _, value in pairs)


def test_optuna_reads_it(study: Study, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    path = export(study, "optuna", tmp_path / "study.db")
    back = optuna.load_study(study_name="exported", storage=f"sqlite:///{path}")
    runs = study.finished().set_index("run_id")
    assert len(back.trials) == 8
    assert back.best_value == pytest.approx(runs.test_accuracy[runs.purpose == "sweep"].max())
    for trial in back.trials:
        row = runs.loc[trial.user_attrs["run_id"]]
        assert trial.params["learning_rate"] == row.learning_rate and trial.params["width"] == row.width
        assert (trial.state == optuna.trial.TrialState.FAIL) == (row.status == "diverged")
        if row.status == "completed":
            assert len(trial.intermediate_values) == 5


def test_tensorboard_reads_it(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = export(study, "tensorboard", tmp_path / "events")
    assert len(list(path.iterdir())) == 8
    entry = next(entry for entry in entries(study) if entry.status == "completed")
    events = EventAccumulator(str(path / entry.run_id)).Reload()
    curve = [(event.step, event.value) for event in events.Scalars("test_accuracy")]
    assert [step for step, _ in curve] == [step for step, _ in entry.curves["test_accuracy"]]
    assert [value for _, value in curve] == pytest.approx([value for _, value in entry.curves["test_accuracy"]])
    assert "_hparams_/session_start_info" in events.summary_metadata


# MLflow's own use of SQLAlchemy.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_reads_it(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow.tracking import MlflowClient

    path = export(study, "mlflow", tmp_path / "tracked")
    client = MlflowClient(tracking_uri=f"sqlite:///{path / 'mlflow.db'}")
    (experiment,) = [own for own in client.search_experiments() if own.name == "exported"]
    back = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    known = {entry.run_id: entry for entry in entries(study)}
    assert back.keys() == known.keys()
    for name, run in back.items():
        assert run.data.params["width"] == str(known[name].given["width"])
        assert run.data.params["parameterization"] == "ntk"
        assert (run.info.status == "FAILED") == (known[name].status == "diverged")
        for metric, value in known[name].found.items():
            assert run.data.metrics[f"late_{metric}"] == pytest.approx(value)


# What a URL, a shell, a format string or a pattern would read as something else.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["a?b.db", "x%20#y.db", "with space", "?mode=ro", "{x}", "[a]*"])
@pytest.mark.parametrize("to", ["optuna", "mlflow", "csv"])
def test_a_path_is_only_a_path(to: str, name: str, study: Study, tmp_path: Path) -> None:
    if to != "csv":
        pytest.importorskip(to, reason=f"the extra `{to}` is not installed")
    place = tmp_path / name
    place.mkdir()
    path = export(study, to, place / name)
    assert [entry.name for entry in place.iterdir()] == [name]
    if to != "csv":
        file = path if to == "optuna" else path / "mlflow.db"
        with contextlib.closing(sqlite3.connect(file)) as database:
            table = "trials" if to == "optuna" else "runs"
            assert database.execute(f"select count(*) from {table}").fetchone() == (8,)


@pytest.mark.parametrize("to", FORMATS)
def test_a_study_without_a_result_is_refused(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*arguments: object) -> None:
        raise RuntimeError("no such model")

    monkeypatch.setattr("noisescale.sweeps.worker.train_pack", breaks)
    failed = sweep(SweepSpec.from_dict(SPEC), tmp_path / "out", jobs=1, quiet=True)
    assert (failed.runs().status == "failed").all() and len(failed.runs())
    with pytest.raises(BadInput, match="at least one finished run"):
        export(failed, to, tmp_path / "exported")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_nothing_is_written_over_and_nothing_half_written(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(BadInput, match="never writes over"):
        export(study, "csv", taken)
    assert taken.read_text() == "mine"

    def breaks(own: Study, path: Path) -> None:
        path.mkdir()
        raise OSError("No space left on device")

    monkeypatch.setitem(FORMATS, "csv", breaks)
    with pytest.raises(OSError, match="No space"):
        export(study, "csv", tmp_path / "half")
    assert list(tmp_path.iterdir()) == [taken]


def test_a_missing_library_is_named(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def misses(own: Study, path: Path) -> None:
        raise ModuleNotFoundError("No module named 'optuna'", name="optuna")

    monkeypatch.setitem(FORMATS, "optuna", misses)
    with pytest.raises(BadInput, match=r"pip install 'noisescale\[optuna\]'"):
        export(study, "optuna", tmp_path / "study.db")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "excel", "--out", "x"], "--to"),
        (["--to", "csv", "--out", "file/x"], "--out"),
        (["--to", "csv"], "--out"),
    ],
)
def test_one_message(
    arguments: list[str], words: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["export", str(study.folder), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_command_says_where_it_wrote(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(study.folder), "--to", "csv", "--out", str(tmp_path / "tables")]) == 0
    assert str(tmp_path / "tables") in capsys.readouterr().out
