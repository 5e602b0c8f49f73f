"""Exports the runs, curves and layers of a study as plain tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from noisescale.store import Study


def write_csv(study: Study, path: Path) -> None:
    """Write runs.csv, curves.csv and layers.csv to a new folder, with all digits of each number."""
    path.mkdir()
    for name, table in _tables(study).items():
        table.to_csv(path / f"{name}.csv", index=False)


def write_parquet(study: Study, path: Path) -> None:
    """Write runs.parquet, curves.parquet and layers.parquet to a new folder."""
    path.mkdir()
    for name, table in _tables(study).items():
        table.to_parquet(path / f"{name}.parquet", index=False)


def _tables(study: Study) -> dict[str, pd.DataFrame]:
    return {"runs": study.runs(), "curves": study.curves(), "layers": study.layers()}
