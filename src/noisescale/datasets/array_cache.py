"""A cache of generated arrays in files. If a file cannot be read or written, the cache is not used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from noisescale.datasets.dataset import Array


def load_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array] | None:
    """Return the arrays of a file that `save_arrays` wrote. None if the file is absent, damaged or has other arrays.

    Args:
        path: An `.npz` file.
        shapes: The required shape of each array, by name. All entries must be finite numbers.
    """
    try:
        # We open the file, because numpy does not close a damaged file that it opened.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in shapes}
    except Exception:  # a damaged archive can raise almost anything
        return None
    return arrays if all(_is_usable(arrays[name], shape) for name, shape in shapes.items()) else None


def _is_usable(array: Array, shape: tuple[int, ...]) -> bool:
    return array.shape == shape and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays so that a reader sees the complete file or no file. Do nothing if the folder cannot be written.

    Args:
        path: The `.npz` file to write.
        arrays: The arrays by name.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
