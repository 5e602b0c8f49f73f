"""Exports the runs, curves and layers of a study as plain tables."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from noisescale.runs import Run, RunResult
from noisescale.store import Study

# A spreadsheet takes a text that begins with one of these for a formula, and may run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Types of values that may be missing. A column whose values are all missing would have no type.
_TYPES = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
_DECLARED = {
    **{field.name: str(field.type).removesuffix(" | None") for part in (Run, RunResult) for field in fields(part)},
    **dict.fromkeys(("error", "run_id", "pack_id", "versions", "code", "reference_layer", "layer"), "str"),
    **dict.fromkeys(("late", "is_reference"), "bool"),
}


def write_csv(study: Study, path: Path) -> None:
    """Write runs.csv, curves.csv and layers.csv to a new folder, with all digits of each number.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    path.mkdir()
    for name, table in _tables(study).items():
        safe = table.map(lambda value: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value)
        safe.to_csv(path / f"{name}.csv", index=False)


def write_parquet(study: Study, path: Path) -> None:
    """Write runs.parquet, curves.parquet and layers.parquet to a new folder.

    A column has the same type in all studies, so that the files of several studies can be read as one data set.
    """
    path.mkdir()
    for name, table in _tables(study).items():
        pq.write_table(_typed(pa.Table.from_pandas(table, preserve_index=False)), path / f"{name}.parquet")


def _typed(table: pa.Table) -> pa.Table:
    for position, field in enumerate(table.schema):
        kind = _TYPES.get(_DECLARED.get(field.name, ""))
        # A column of numbers that are whole in one study may have fractions or gaps in another.
        if kind is None and (pa.types.is_null(field.type) or pa.types.is_integer(field.type)):
            kind = pa.float64()
        if kind is not None and kind != field.type:
            table = table.set_column(position, pa.field(field.name, kind), table.column(position).cast(kind))
    return table


def _tables(study: Study) -> dict[str, pd.DataFrame]:
    return {"runs": study.runs(), "curves": study.curves(), "layers": study.layers()}
