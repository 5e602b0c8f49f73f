"""From nested columns of shards to flat ones: whole columns at once, because a million Python objects would not fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class NestedCurves:
    """A struct column of lists, one list an evaluated quantity.

    Args:
        column: Of a shard's table. A quantity that a run did not measure is null there.  `lengths` [R] are the
            evaluations of each run.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._lists = {
            name: pa.chunked_array([chunk.field(place) for chunk in column.chunks], type=column.type[place].type)
            for place, name in enumerate(field.name for field in column.type)
        }
        self.lengths = self._length_of("step")

    @property
    def names(self) -> list[str]:
        """The quantities that any run measured."""
        return list(self._lists)

    def flat(self, name: str) -> NDArray[np.float64]:
        """One quantity at every evaluation of every run, nan where a run did not measure it."""
        lengths, values = self._length_of(name), self._values(name)
        if np.array_equal(lengths, self.lengths):
            return values
        found = np.full(int(self.lengths.sum()), np.nan)
        found[np.repeat(lengths == self.lengths, self.lengths)] = values
        return found

    def last(self, name: str) -> NDArray[np.float64]:
        """The last value of a quantity [R], nan where a run did not measure it."""
        if name not in self._lists:
            return np.full(len(self.lengths), np.nan)
        lengths, values = self._length_of(name), self._values(name)
        ends = np.cumsum(lengths) - 1
        found = np.full(len(lengths), np.nan)
        found[lengths > 0] = values[ends[lengths > 0]]
        return found

    def _values(self, name: str) -> NDArray[np.float64]:
        found: NDArray[np.float64] = pc.list_flatten(self._lists[name]).to_numpy().astype(np.float64)
        return found

    def _length_of(self, name: str) -> NDArray[np.int64]:
        lengths = pc.fill_null(pc.list_value_length(self._lists[name]), 0)
        found: NDArray[np.int64] = lengths.to_numpy().astype(np.int64)
        return found


def flat_rows(column: pa.ChunkedArray, ids: pd.Series) -> pd.DataFrame:
    """A column of lists of structs as a frame of all of them, with the id of the row that each comes from as `run_id`.

    Args:
        column: Lists of structs, one list per row.
        ids: [R], of the rows.
    """
    lists = column.combine_chunks()
    frame: pd.DataFrame = pa.Table.from_struct_array(pc.list_flatten(lists)).to_pandas()
    frame.insert(0, ids.name, ids.to_numpy()[pc.list_parent_indices(lists).to_numpy()])
    return frame
