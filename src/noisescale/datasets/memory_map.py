"""Arrays in files that are mapped into memory: all processes share them, and only what is read takes memory.

Files lie in the folder `arrays` of the user's cache and are named by the digest of what they hold. Where this folder
cannot be written, arrays stay in memory.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from noisescale.datasets.dataset import Array
from noisescale.datasets.files import user_cache

# Number of entries of a large array that are in memory at once.
_CHUNK = 2**20


def is_mapped(array: Array) -> bool:
    """Return whether an array is a view of a file that is mapped into memory.

    Args:
        array: The array, which may be a view of a view.
    """
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base is not None


def in_chunks(array: Array) -> Iterator[Array]:
    """Yield an array in parts of about a million entries along its first axis, as views.

    Args:
        array: The array, shape [N, …].
    """
    rows = max(1, _CHUNK // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def as_tensor(array: Array) -> torch.Tensor:
    """Return a tensor that shares the memory of an array, which may be read-only.

    Args:
        array: The array. Nothing may write into the tensor if the array is read-only.
    """
    with warnings.catch_warnings():
        # A private writable map would count as memory of the process, as large as the file.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class RowWriter:
    """Writes the rows of an array to a file, part by part. Used as a context, it removes the file of a failed attempt.

    Args:
        shape: Shape of the array, [N, …].
        dtype: Its dtype, to which the parts are converted.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._digest = hashlib.sha256(_header(self.dtype, shape))
        self._temporary: Path | None = None
        self._file = self._reserved_file()
        self._array = None if self._file is not None else np.empty(shape, self.dtype)
        self._rows = 0

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def append(self, part: Array) -> None:
        """Write the next rows.

        Args:
            part: Rows, shape [n, …].

        Raises:
            OSError: The disk fills up, on a system that cannot reserve room in advance.
        """
        if self._file is None:
            assert self._array is not None
            self._array[self._rows : self._rows + len(part)] = part
        else:
            content = np.ascontiguousarray(part, dtype=self.dtype)
            self._digest.update(content.data)
            self._file.write(content.data)
        self._rows += len(part)

    def finish(self) -> Array:
        """Return the array, after all its rows: a read-only map of the file, or in memory if no file can be written."""
        if self._file is None:
            assert self._array is not None
            return self._array
        assert self._temporary is not None
        self._file.close()
        path = self._temporary.with_name(f"{self._digest.hexdigest()}.npy")
        if not _holds(path, self._digest.hexdigest()):
            os.replace(self._temporary, path)
        return _mapped(path)

    def _reserved_file(self) -> BinaryIO | None:
        """Open a new file with room for all rows. None if there is no room or the folder cannot be written."""
        if 0 in self.shape:  # an empty file cannot be mapped
            return None
        file = None
        try:
            folder = user_cache() / "arrays"
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
            self._temporary = Path(name)
            file = os.fdopen(handle, "wb")
            description = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_2_0(file, description)
            file.flush()
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(file.fileno(), file.tell(), int(np.prod(self.shape)) * self.dtype.itemsize)
        except OSError:
            if file is not None:
                file.close()
            return None
        return file


def store_rows(parts: Iterable[Array], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Write the rows of an array to a file, and return the array as a read-only map of this file.

    Args:
        parts: The rows, in arrays of shape [n, …] whose lengths n add up to N.
        shape: Shape of the array, [N, …].
        dtype: Its dtype, to which the parts are converted.

    Returns:
        The array, in memory if the file cannot be written.
    """
    with RowWriter(shape, dtype) as writer:
        for part in parts:
            writer.append(part)
        return writer.finish()


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"{dtype.str} {shape}".encode()


def _mapped(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _holds(path: Path, digest: str) -> bool:
    """Return whether a file holds the array with this digest. It is used then, so that processes share its memory."""
    try:
        array = _mapped(path)
    except (OSError, ValueError):
        return False
    actual = hashlib.sha256(_header(array.dtype, array.shape))
    for part in in_chunks(array):
        actual.update(np.ascontiguousarray(part).data)
    return actual.hexdigest() == digest
