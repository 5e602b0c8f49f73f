"""Reads pickles of numpy arrays and plain containers, and refuses pickles that would load anything else."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from noisescale.errors import BadInput

# The function with which numpy unpickles an array. It is taken from an array, because its old import path warns.
_reconstruct = np.zeros(0).__reduce__()[0]

ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}


def load_restricted_pickle(content: bytes, path: Path) -> Any:
    """Return the object of a pickle that contains only numpy arrays, numbers, strings and plain containers.

    Strings from Python 2 are returned as bytes.

    Args:
        content: The pickle's bytes.
        path: The file's name, for messages.

    Raises:
        BadInput: The pickle cannot be read, or it names a function or class that is not in `ADMITTED`. Such a function
            or class is never imported.
    """
    try:
        return _RestrictedUnpickler(content, path).load()
    except BadInput:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise BadInput(str(path), "must be a readable pickle", f"{type(error).__name__}: {error}") from error


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ADMITTED[module, name]
        except KeyError:
            required = "the pickle may contain only numpy arrays and plain containers; none of its code was run"
            raise BadInput(str(self.path), required, f"a reference to {module}.{name}") from None
