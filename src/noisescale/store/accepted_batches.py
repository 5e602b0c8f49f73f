"""The batch sizes on which a model can be trained, and their record in the folder of a sweep."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noisescale.store.json_record import positive, read_record

MODEL = "model.json"


@dataclass(frozen=True, slots=True)
class AcceptedBatches:
    """The batch sizes that a model accepts in training mode.

    Args:
        smallest: Smallest batch size, in examples.
        ghost_sizes: Sizes of ghost batches in the model. A larger batch must be a multiple of each.
        error: The error that the model raises on a smaller batch; empty if `smallest` is 1.
    """

    smallest: int = 1
    ghost_sizes: tuple[int, ...] = ()
    error: str = ""

    def fault(self, batch_size: int) -> str | None:
        """Return the requirement that a batch size violates. None if the model accepts it."""
        if batch_size < self.smallest:
            reason = f" (with fewer it raises {self.error})" if self.error else ""
            return f"batches on which the model can be trained, of at least {self.smallest} examples{reason}"
        for size in self.ghost_sizes:
            if batch_size > size and batch_size % size:
                return f"batches on which the model can be trained: multiples of its ghost size {size}, or sizes below"
        return None

    def text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self))


def read_accepted_batches(folder: Path) -> AcceptedBatches | None:
    """Read the record of a sweep; None if the folder has none, as in version 0.1.

    Args:
        folder: The folder of the sweep.

    Raises:
        BadInput: The record is damaged.
    """
    required = "the batch sizes of the model as a sweep wrote them; the same `noisescale sweep` writes them again"
    return read_record(folder / MODEL, required, _accepted_batches)


def _accepted_batches(values: Any) -> AcceptedBatches:
    smallest, sizes, error = values["smallest"], tuple(values["ghost_sizes"]), values["error"]
    positive((smallest, *sizes))
    if not isinstance(error, str):
        raise TypeError("error must be text")
    return AcceptedBatches(smallest, sizes, error)
