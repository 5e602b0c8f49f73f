"""Which kernel, and how many runs at once, a pack's shape got by measurement: written down at its first pack and kept.

Kernels agree to rounding, not to the bit: a pack that is trained again after a kill must be computed as before.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from noisescale.runs import Run
from noisescale.store import write_atomically

# A name and a number of runs at once.
_CHOICE = re.compile("[a-z]+ [1-9][0-9]{0,8}")


class KernelRecord:
    """One small file a shape in the sweep's folder.

    Args:
        folder: Where the files lie; made at the first one.
        device: Of the packs.
        threads: Of each worker.
    """

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        self._folder, self._device, self._threads = folder, device, threads

    def known(self, run: Run) -> str:
        """The choice for the run's shape ("vmap 8"), or "auto" where none was chosen yet or none can be read."""
        try:
            choice = self._path(run).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return "auto"
        return choice if _CHOICE.fullmatch(choice) else "auto"

    def settle(self, run: Run, choice: str) -> str:
        """Write a choice down unless another worker was first, and return the one that holds."""
        path = self._path(run)
        self._folder.mkdir(exist_ok=True)
        unreadable = path.exists() and self.known(run) == "auto"
        write_atomically(path, lambda file: file.write(choice.encode()), replace=unreadable)
        known = self.known(run)
        return choice if known == "auto" else known

    def _path(self, run: Run) -> Path:
        text = json.dumps([run.shape_key, self._device, self._threads])
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
