"""Arrays in files that are mapped into memory: all processes share them, and only what is read takes memory."""

from __future__ import annotations

import mmap
import warnings

import torch

from noisescale.datasets.dataset import Array


def is_mapped(array: Array) -> bool:
    """Return whether an array is a view of a file that is mapped into memory.

    Args:
        array: The array, which may be a view of a view.
    """
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base is not None


def as_tensor(array: Array) -> torch.Tensor:
    """Return a tensor that shares the memory of an array, which may be read-only.

    Args:
        array: The array. Nothing may write into the tensor if the array is read-only.
    """
    with warnings.catch_warnings():
        # A private writable map would count as memory of the process, as large as the file.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
