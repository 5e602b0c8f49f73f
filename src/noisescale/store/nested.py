"""Flattening of the nested columns of result files. It works on whole columns, because a million Python objects would
not fit in memory.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class NestedCurves:
    """The curves of all runs, from a struct column with one list per evaluated quantity.

    `lengths` holds the number of evaluations of each run, shape [R].

    Args:
        column: The column `curves` of the stored results. A quantity that a run did not measure is null.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._lists = {
            name: pa.chunked_array([chunk.field(place) for chunk in column.chunks], type=column.type[place].type)
            for place, name in enumerate(field.name for field in column.type)
        }
        self.lengths = self._lengths("step")

    @property
    def names(self) -> list[str]:
        """The names of the quantities that any run measured."""
        return list(self._lists)

    def flat(self, name: str) -> NDArray[np.float64]:
        """Return one quantity at every evaluation of every run.

        Args:
            name: The quantity.

        Returns:
            Values, shape [Σ lengths], NaN where a run did not measure the quantity.
        """
        lengths, values = self._lengths(name), self._values(name)
        if np.array_equal(lengths, self.lengths):
            return values
        padded = np.full(int(self.lengths.sum()), np.nan)
        padded[np.repeat(lengths == self.lengths, self.lengths)] = values
        return padded

    def last(self, name: str) -> NDArray[np.float64]:
        """Return the last value of one quantity in every run.

        Args:
            name: The quantity.

        Returns:
            Values, shape [R], NaN where a run did not measure the quantity.
        """
        if name not in self._lists:
            return np.full(len(self.lengths), np.nan)
        lengths, values = self._lengths(name), self._values(name)
        ends = np.cumsum(lengths) - 1
        last = np.full(len(lengths), np.nan)
        last[lengths > 0] = values[ends[lengths > 0]]
        return last

    def _values(self, name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = pc.list_flatten(self._lists[name]).to_numpy().astype(np.float64)
        return values

    def _lengths(self, name: str) -> NDArray[np.int64]:
        filled = pc.fill_null(pc.list_value_length(self._lists[name]), 0)
        lengths: NDArray[np.int64] = filled.to_numpy().astype(np.int64)
        return lengths


def flat_rows(column: pa.ChunkedArray, ids: pd.Series) -> pd.DataFrame:
    """Flatten a column of lists of structs into a frame with one row per struct.

    Args:
        column: Lists of structs, one list per run.
        ids: The ids of the runs, shape [R]. The series' name becomes the first column.

    Returns:
        The frame: the id of the run, then the fields of the struct.
    """
    lists = column.combine_chunks()
    frame: pd.DataFrame = pa.Table.from_struct_array(pc.list_flatten(lists)).to_pandas()
    frame.insert(0, ids.name, ids.to_numpy()[pc.list_parent_indices(lists).to_numpy()])
    return frame
