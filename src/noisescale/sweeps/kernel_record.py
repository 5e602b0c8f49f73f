"""The record of the fastest kernel and number of runs at once, for packs of each shape.

A kernel is a way to compute the gradients of all runs of a pack. Packs have the same shape if their runs differ only in
values such as learning rate and seed. The first pack of a shape measures which kernel and which number of runs at once
train fastest, and stores this choice. Results of different kernels differ by rounding errors, so a pack that trains
again after a kill must use the same choice.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from noisescale.runs import Run
from noisescale.store import write_atomically

# The name of a kernel and the number of runs at once.
_CHOICE = re.compile("[a-z]+ [1-9][0-9]{0,8}")


class KernelRecord:
    """The choices of one sweep, in one small file per shape.

    Args:
        folder: The folder of the files. Storing the first choice creates it.
        device: "cpu" or "cuda".
        threads: Number of threads per worker.
    """

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        self._folder, self._device, self._threads = folder, device, threads

    def read(self, run: Run) -> str:
        """Return the choice for the run's shape ("vmap 8"), or "auto" if there is none or it cannot be read."""
        try:
            choice = self._path(run).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return "auto"
        return choice if _CHOICE.fullmatch(choice) else "auto"

    def store(self, run: Run, choice: str) -> str:
        """Store the choice for the run's shape, unless another worker has stored one before.

        Args:
            run: A run of the shape.
            choice: The measured choice.

        Returns:
            The stored choice, which all packs of this shape use.
        """
        path = self._path(run)
        self._folder.mkdir(exist_ok=True)
        unreadable = path.exists() and self.read(run) == "auto"
        write_atomically(path, lambda file: file.write(choice.encode()), replace=unreadable)
        stored = self.read(run)
        return choice if stored == "auto" else stored

    def _path(self, run: Run) -> Path:
        text = json.dumps([run.shape_key, self._device, self._threads])
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
