"""Exports, read back with the tools that they are for."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

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
    # The largest rate diverges. Runs without results are exported too.
    "grid": {"width": [4, 8], "learning_rate": [0.5, 1e9], "batch_size": [8]},
    "training": {"steps": 40, "evaluations": 4},
    "stability": {"steps": 20, "seeds": 2},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return sweep(SweepSpec.from_dict(SPEC), tmp_path_factory.mktemp("study") / "out", jobs=1, quiet=True)


@pytest.mark.parametrize(("to", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables_are_read_back(to: str, read: Any, study: Study, tmp_path: Path) -> None:
    path = export(study, to, tmp_path / "tables")
    for name, table in (("runs", study.runs()), ("curves", study.curves()), ("layers", study.layers())):
        back = read(path / f"{name}.{to}")
        assert list(back.columns) == list(table.columns) and len(back) == len(table)
        for column in ("run_id", "test_accuracy", "learning_rate"):
            if column in table:
                pd.testing.assert_series_equal(back[column], table[column], check_dtype=False, check_exact=True)


def test_tables_of_several_studies_are_one_data_set(study: Study, tmp_path: Path) -> None:
    other = SPEC | {
        "model": {"family": "resnet", "blocks": [1], "normalization": "group", "groups": 2},
        "grid": {"width": [4], "learning_rate": [0.1], "batch_size": [8], "optimizer": ["adamw"]},
        "training": {"steps": 10, "evaluations": 2, "clip_norm": 1.0},
        "stability": {"seeds": 0},
    }
    second = sweep(SweepSpec.from_dict(other), tmp_path / "second", jobs=1, quiet=True)
    for number, one in enumerate((study, second)):
        export(one, "parquet", tmp_path / "all" / str(number))
    for name in ("runs", "curves", "layers"):
        files = sorted(str(path) for path in (tmp_path / "all").glob(f"*/{name}.parquet"))
        schemas = [pq.read_schema(file) for file in files]
        assert not any(pa.types.is_null(field.type) for schema in schemas for field in schema)
        table = dataset(files, schema=pa.unify_schemas(schemas)).to_table()
        assert table.num_rows == sum(pq.read_metadata(file).num_rows for file in files)
    runs = dataset(sorted((tmp_path / "all").glob("*/runs.parquet"))).to_table().to_pandas()
    assert set(runs.blocks.dropna()) == {"[1]"} and set(runs.clip_norm.dropna()) == {1.0}


@pytest.mark.parametrize("text", ["=1+2", "+a", "-b", "@c", "\t=d"])
def test_texts_are_no_formulas_in_a_spreadsheet(text: str, study: Study, tmp_path: Path) -> None:
    class Renamed(Study):
        def runs(self) -> pd.DataFrame:
            return study.runs().assign(dataset=text, drift=-1.5)

    path = export(Renamed(study.folder, study.spec), "csv", tmp_path / "tables")
    back = pd.read_csv(path / "runs.csv")
    assert set(back.dataset) == {f"'{text}"} and set(back.drift) == {-1.5}


def test_varying_keys_are_hyperparameters(study: Study) -> None:
    runs = list(entries(study))
    assert len(runs) == 8
    assert set(runs[0].hyperparameters) == {"width", "learning_rate", "seed"}
    assert runs[0].constants["batch_size"] == 8
    diverged = [entry for entry in runs if entry.status == "diverged"]
    assert diverged and all("test_accuracy" not in entry.results for entry in diverged)
    assert all(math.isfinite(value) for entry in runs for pairs in entry.curves.values() for _, value in pairs)


@pytest.fixture(scope="module")
def study_of_two_optimizers(tmp_path_factory: pytest.TempPathFactory) -> Study:
    grid = SPEC["grid"] | {"optimizer": ["sgd", "adamw"], "learning_rate": [0.01], "beta2": [0.9, 0.99]}
    spec = SPEC | {"grid": grid, "stability": {"seeds": 0}, "training": SPEC["training"] | {"decay": "decoupled"}}
    return sweep(SweepSpec.from_dict(spec), tmp_path_factory.mktemp("optimizers") / "out", jobs=1, quiet=True)


def test_a_run_has_the_hyperparameters_of_its_optimizer(study_of_two_optimizers: Study) -> None:
    runs = list(entries(study_of_two_optimizers))
    assert {entry.hyperparameters["optimizer"] for entry in runs} == {"sgd", "adamw"}
    adamw = [entry for entry in runs if entry.hyperparameters["optimizer"] == "adamw"]
    assert {entry.hyperparameters["beta2"] for entry in adamw} == {0.9, 0.99}
    assert all(entry.constants["beta1"] == 0.9 for entry in adamw)
    for entry in runs:
        values = entry.hyperparameters | entry.constants
        assert ("beta2" in values) == (entry in adamw) and ("momentum" in entry.constants)


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


def test_optuna_reads_hyperparameters_of_one_optimizer(study_of_two_optimizers: Study, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    path = export(study_of_two_optimizers, "optuna", tmp_path / "study.db")
    trials = optuna.load_study(study_name="exported", storage=f"sqlite:///{path}").trials
    assert {trial.params["optimizer"] for trial in trials} == {"sgd", "adamw"}
    assert all(("beta2" in trial.params) == (trial.params["optimizer"] == "adamw") for trial in trials)


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


# MLflow's use of SQLAlchemy causes the warning.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_reads_it(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow.tracking import MlflowClient

    path = export(study, "mlflow", tmp_path / "tracked")
    client = MlflowClient(tracking_uri=f"sqlite:///{path / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "exported"]
    back = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    exported = {entry.run_id: entry for entry in entries(study)}
    assert back.keys() == exported.keys()
    for name, run in back.items():
        assert run.data.params["width"] == str(exported[name].hyperparameters["width"])
        assert run.data.params["parameterization"] == "ntk"
        assert (run.info.status == "FAILED") == (exported[name].status == "diverged")
        for metric, value in exported[name].results.items():
            assert run.data.metrics[f"late_{metric}"] == pytest.approx(value)


# Names with a special meaning in a URL, a shell, a format string or a pattern.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "a?b.db",
        "x%20#y.db",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("with space", "?mode=ro", "{x}", "[a]*")),
    ],
)
@pytest.mark.parametrize("to", ["optuna", "mlflow", "csv"])
def test_special_characters_in_a_path_have_no_meaning(to: str, name: str, study: Study, tmp_path: Path) -> None:
    if to != "csv":
        pytest.importorskip(to, reason=f"the extra `{to}` is not installed")
    folder = tmp_path / name
    folder.mkdir()
    path = export(study, to, folder / name)
    assert [entry.name for entry in folder.iterdir()] == [name]
    if to != "csv":
        file = path if to == "optuna" else path / "mlflow.db"
        with contextlib.closing(sqlite3.connect(file)) as database:
            table = "trials" if to == "optuna" else "runs"
            assert database.execute(f"select count(*) from {table}").fetchone() == (8,)


@pytest.mark.parametrize("to", FORMATS)
def test_a_study_without_a_result_is_refused(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no such model")

    monkeypatch.setattr("noisescale.sweeps.worker.train_pack", fail)
    failed = sweep(SweepSpec.from_dict(SPEC), tmp_path / "out", jobs=1, quiet=True)
    assert (failed.runs().status == "failed").all() and len(failed.runs())
    with pytest.raises(BadInput, match="at least one finished run"):
        export(failed, to, tmp_path / "exported")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_nothing_is_overwritten_or_written_partly(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = tmp_path / "existing"
    existing.write_text("mine")
    with pytest.raises(BadInput, match="never overwrites"):
        export(study, "csv", existing)
    assert existing.read_text() == "mine"

    def fail(study: Study, path: Path) -> None:
        path.mkdir()
        raise OSError("No space left on device")

    monkeypatch.setitem(FORMATS, "csv", fail)
    with pytest.raises(OSError, match="No space"):
        export(study, "csv", tmp_path / "half")
    assert list(tmp_path.iterdir()) == [existing]


def test_a_missing_library_is_named(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(study: Study, path: Path) -> None:
        raise ModuleNotFoundError("No module named 'optuna'", name="optuna")

    monkeypatch.setitem(FORMATS, "optuna", fail)
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
def test_the_command_refuses_with_a_message(
    arguments: list[str], words: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["export", str(study.folder), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_command_prints_where_it_wrote(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(study.folder), "--to", "csv", "--out", str(tmp_path / "tables")]) == 0
    assert str(tmp_path / "tables") in capsys.readouterr().out
