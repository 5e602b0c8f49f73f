"""Read a pickle of numpy arrays and plain containers, and refuse one that would load anything else."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from noisescale.errors import BadInput

# The function with which numpy unpickles an array. We take it from an array, because its old import path warns.
_reconstruct = np.zeros(0).__reduce__()[0]

ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}


def load_restricted_pickle(content: bytes, path: Path) -> Any:
    """Return the object of a pickle that holds numpy arrays, numbers, strings and plain containers only.

    Strings of Python 2 come back as bytes.

    Args:
        content: The pickle's bytes.
        path: The file's name for the message.

    Raises:
        BadInput: The pickle cannot be read, or it names a function or class that is not in `ADMITTED`. No such name is
            imported.
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
            required = "the pickle may hold numpy arrays and plain containers only; nothing of it was run"
            raise BadInput(str(self.path), required, f"it asks for {module}.{name}") from None
