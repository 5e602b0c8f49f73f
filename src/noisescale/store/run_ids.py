"""The check that each row of a shard holds the configuration that its run id stands for.

An id is a digest of the configuration, so a row with edited values does not have its own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

import pyarrow as pa

from noisescale.runs import SEMANTICS, Run, id_entry, id_of_entries

_KEYS = [field.name for field in fields(Run)]


def check_run_ids(table: pa.Table) -> None:
    """Check that the configuration of each row has the row's id.

    Args:
        table: All keys of the runs, after `check_values`.

    Raises:
        ValueError: The id of a row belongs to another configuration.
    """
    columns = {name: table[name].to_pylist() for name in _KEYS}
    run_ids = table["run_id"].to_pylist()
    for row, (run_id, expected) in enumerate(zip(run_ids, _ids(columns), strict=True)):
        # An older version may have given another id, so a row that differs is built in full.
        if run_id != expected and not Run.from_record({name: columns[name][row] for name in _KEYS}).has_id(run_id):
            raise ValueError(f"the id {run_id} in the row of another run")


def _ids(columns: dict[str, list[Any]]) -> list[str]:
    """Return the id of each row in this version. The text of each different value is made once."""
    semantics = [SEMANTICS[purpose] for purpose in columns["purpose"]]
    values = {**columns, "semantics": semantics}
    entries: list[Sequence[str]] = []
    # Most keys have one value in a whole file. Neighbors of this kind are one entry.
    for is_constant, names in groupby(sorted(values), lambda name: len(set(values[name])) == 1):
        if is_constant:
            text = ",".join(filter(None, (id_entry(name, values[name][0]) for name in names)))
            entries.append([text] * len(semantics))
        else:
            entries += [_entries(name, values[name]) for name in names]
    return [id_of_entries(row) for row in zip(*entries, strict=True)]


def _entries(name: str, values: Sequence[Any]) -> list[str]:
    texts = {value: id_entry(name, value) for value in set(values)}
    return [texts[value] for value in values]
