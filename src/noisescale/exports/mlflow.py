"""Exports a study as an MLflow experiment. It is stored in an SQLite file in a new folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisescale.exports.database import sqlite_at
from noisescale.exports.entries import Entry, entries
from noisescale.store import Study

# Largest number of metrics per request, a limit of MLflow.
_BATCH = 1000


def write_mlflow(study: Study, path: Path) -> None:
    """Write one MLflow run for each run of the study. Late-time means and curves become metrics.

    `mlflow ui --backend-store-uri` opens the file.

    Args:
        study: The study.
        path: The new folder.
    """
    from mlflow.tracking import MlflowClient

    path.mkdir()
    with sqlite_at(path / "mlflow.db") as url:
        client = MlflowClient(tracking_uri=url)
        experiment = client.create_experiment(str(study.spec.get("name", "study")), artifact_location="artifacts")
        for entry in entries(study):
            _log(client, experiment, entry)


def _log(client: Any, experiment: str, entry: Entry) -> None:
    from mlflow.entities import Metric, Param

    run = client.create_run(experiment, run_name=entry.run_id, tags={"status": entry.status}).info.run_id
    params = [Param(name, str(value)) for name, value in (entry.constants | entry.hyperparameters).items()]
    metrics = [Metric(f"late_{name}", value, 0, 0) for name, value in entry.results.items()]
    metrics += [Metric(name, value, 0, step) for name, pairs in entry.curves.items() for step, value in pairs]
    client.log_batch(run, params=params)
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])
    client.set_terminated(run, "FINISHED" if entry.status == "completed" else "FAILED")
