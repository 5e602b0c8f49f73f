"""A study as an MLflow experiment, in an SQLite file within a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisescale.exports.database import sqlite_at
from noisescale.exports.entries import Entry, entries
from noisescale.store import Study

# MLflow's own limit for one request.
_BATCH = 1000


def write_mlflow(study: Study, path: Path) -> None:
    """A run a run: parameters, late-time means and curves as metrics; `mlflow ui --backend-store-uri` opens it."""
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
    given = [Param(name, str(own)) for name, own in (entry.fixed | entry.given).items()]
    metrics = [Metric(f"late_{name}", own, 0, 0) for name, own in entry.found.items()]
    metrics += [Metric(name, own, 0, step) for name, pairs in entry.curves.items() for step, own in pairs]
    client.log_batch(run, params=given)
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])
    client.set_terminated(run, "FINISHED" if entry.status == "completed" else "FAILED")
