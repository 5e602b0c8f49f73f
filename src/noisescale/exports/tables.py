"""Runs, curves and layers as plain tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from noisescale.store import Study


def write_csv(study: Study, path: Path) -> None:
    """runs.csv, curves.csv and layers.csv in a folder; numbers with all their digits."""
    path.mkdir()
    for name, table in _tables(study).items():
        table.to_csv(path / f"{name}.csv", index=False)


def write_parquet(study: Study, path: Path) -> None:
    """runs.parquet, curves.parquet and layers.parquet in a folder."""
    path.mkdir()
    for name, table in _tables(study).items():
        table.to_parquet(path / f"{name}.parquet", index=False)


def _tables(study: Study) -> dict[str, pd.DataFrame]:
    return {"runs": study.runs(), "curves": study.curves(), "layers": study.layers()}
